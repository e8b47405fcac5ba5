"""Architecture files (``convert/archs/*.toml``): reads them and expands them for one class and one config."""
