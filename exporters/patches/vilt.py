"""ViLT with every patch of its pictures.

transformers cuts out the patches that the mask leaves, one picture after the other, and fills up with others by chance, until all
pictures have as many as the largest. What is filled up is masked, and the order of patches means nothing, since each has its position
with it. So the same comes out of all patches with the mask, without a size that depends on values.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

NOTE = "all patches of a picture go in, with their mask, instead of those that the mask leaves"


def patch_vilt(model: Any) -> list[str]:
    """Changes the embeddings of ViLT, unless its config wants patches left out by chance; gives what there is to note."""
    parts = [part for part in model.modules() if type(part).__name__ == "ViltEmbeddings"]
    whole = [part for part in parts if part.config.max_image_length < 0]
    for part in whole:
        part.visual_embed = MethodType(_visual_embed, part)
    return [NOTE] if whole else []


def _visual_embed(self: Any, pixel_values: Any, pixel_mask: Any, max_image_length: int) -> Any:
    import torch

    patches = self.patch_embeddings(pixel_values)
    height, width = patches.shape[2:]
    small = torch.nn.functional.interpolate(pixel_mask[:, None].float(), size=(height, width))
    mask = small[:, 0].long()
    embedded = (patches.permute(0, 2, 3, 1) + _interpolated_positions(self, mask)).flatten(1, 2)
    first = (self.cls_token + self.position_embeddings[:, :1]).expand(mask.shape[0], -1, -1)
    every = torch.cat([mask.new_ones(mask.shape[0], 1), mask.flatten(1)], dim=1)
    grid = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    index = torch.stack(grid, -1).flatten(0, 1)[None].expand(mask.shape[0], -1, -1)
    return torch.cat([first, embedded], dim=1), every, (index, (height, width))


def _interpolated_positions(self: Any, mask: Any) -> Any:
    """The table of positions, stretched over the rows and columns of each picture that its mask leaves.

    In two products: ``einsum`` of three looks for the best order, and by that fixes the sizes.
    """
    side = self.config.image_size // self.config.patch_size
    table = self.position_embeddings[0, 1:].view(side, side, -1)
    rows = _linear_interpolation_weights(mask[:, :, 0].sum(1), mask.shape[1], side)
    columns = _linear_interpolation_weights(mask[:, 0].sum(1), mask.shape[2], side)
    tall = rows[:, None] @ table.float().permute(2, 0, 1)
    return (tall @ columns.transpose(1, 2)[:, None]).permute(0, 2, 3, 1).to(table.dtype)


def _linear_interpolation_weights(count: Any, size: int, side: int) -> Any:
    """How much of each of the table's ``side`` entries each of ``size`` places has: linear, corners on corners.

    Args:
        count: For each picture how many of the places are its own.
        size: How many places there are.
        side: Of the table.
    """
    import torch

    step = (side - 1) / (count - 1).clamp(min=1).float()
    places = torch.arange(size, device=count.device)[None] * step[:, None]
    distance = (places[..., None] - torch.arange(side, device=count.device)).abs()
    return (1 - distance).clamp(min=0)
