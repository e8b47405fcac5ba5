"""The parameters of every pipeline of transformers 4.57.6, as data, and the check of a call's options against them."""
