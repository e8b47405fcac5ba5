"""Exports ViLT with all patches of its images and their mask.

transformers selects the patches that the mask leaves, one image after another, and pads with random others until all
images have as many patches as the largest. The padding is masked, and the order of patches means nothing, since each
one carries its position. So all patches with the mask give the same result, without a data-dependent size.
"""

from __future__ import annotations

from types import MethodType

from equipoise.convert.core.framework_types import TorchModel, TorchModule, TorchTensor

NOTE = "all patches of an image are inputs, with their mask, instead of those that the mask keeps"


def patch_vilt(model: TorchModel) -> list[str]:
    """Replaces ViLT's embeddings, unless its config drops patches at random; returns notes for artifact.json."""
    parts = [part for part in model.modules() if type(part).__name__ == "ViltEmbeddings"]
    unlimited = [part for part in parts if part.config.max_image_length < 0]
    for part in unlimited:
        part.visual_embed = MethodType(_visual_embed, part)
    return [NOTE] if unlimited else []


def _visual_embed(
    self: TorchModule, pixel_values: TorchTensor, pixel_mask: TorchTensor, max_image_length: int
) -> TorchTensor:
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


def _interpolated_positions(self: TorchModule, mask: TorchTensor) -> TorchTensor:
    """Interpolates the position table over the rows and columns of each image that its mask leaves.

    Uses two products: ``einsum`` of three operands searches for the best order, which fixes the sizes.
    """
    side = self.config.image_size // self.config.patch_size
    table = self.position_embeddings[0, 1:].view(side, side, -1)
    rows = _linear_interpolation_weights(mask[:, :, 0].sum(1), mask.shape[1], side)
    columns = _linear_interpolation_weights(mask[:, 0].sum(1), mask.shape[2], side)
    tall = rows[:, None] @ table.float().permute(2, 0, 1)
    return (tall @ columns.transpose(1, 2)[:, None]).permute(0, 2, 3, 1).to(table.dtype)


def _linear_interpolation_weights(count: TorchTensor, size: int, side: int) -> TorchTensor:
    """Returns the weight of each of ``side`` table entries at each of ``size`` positions, with aligned corners.

    Args:
        count: Number of valid positions of each image.
        size: Number of positions.
        side: Number of table entries.
    """
    import torch

    step = (side - 1) / (count - 1).clamp(min=1).float()
    places = torch.arange(size, device=count.device)[None] * step[:, None]
    distance = (places[..., None] - torch.arange(side, device=count.device)).abs()
    return (1 - distance).clamp(min=0)
