"""A camera and its canvas: textured quads, sprites and polygons, painted from far to near.

The image is painted at twice the frame's size and averaged at the end, which is what softens its
edges; labels, inverse depth and instance numbers are kept at the frame's size.

World: s metres along the road, x metres to the right of its middle, y metres up. The road may bend:
its middle lies at ``bend(s)`` metres sideways. Seen from s0 a bend is a shear (small angles), so
that everything at one s keeps one depth: z = s - s0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from unirestore_ros.synthetic.noise import Array

NEAR_M = 0.7


@dataclass(frozen=True)
class Bend:
    """The road's sideways course: a sum of long waves."""

    amplitudes: Array
    lengths: Array
    phases: Array

    def __call__(self, s: Array | float) -> Array:
        angle = 2 * np.pi * np.asarray(s)[..., None] / self.lengths + self.phases
        return (self.amplitudes * np.sin(angle)).sum(axis=-1)

    def slope(self, s: Array | float) -> Array:
        angle = 2 * np.pi * np.asarray(s)[..., None] / self.lengths + self.phases
        return (self.amplitudes * 2 * np.pi / self.lengths * np.cos(angle)).sum(axis=-1)


@dataclass(frozen=True)
class Camera:
    """A pinhole on the canvas: focal length, principal column and horizon row in canvas pixels."""

    s: float
    x: float
    height: float
    focal: float
    column: float
    horizon: float
    bend: Bend

    def sideways(self, s: Array | float) -> Array:
        """Compute how far the road's middle at s lies right of the camera's straight course."""
        ahead = np.asarray(s) - self.s
        return self.bend(s) - self.bend(self.s) - self.bend.slope(self.s) * ahead - self.x

    def project(self, x: Array, y: Array, s: Array) -> tuple[Array, Array]:
        """Project to canvas points (N,2) and inverse depths (N,); what is nearer than NEAR_M is
        put there."""
        inverse = 1.0 / np.maximum(np.asarray(s, float) - self.s, NEAR_M)
        across = (np.asarray(x) + self.sideways(s)) * self.focal * inverse + self.column
        down = self.horizon - (np.asarray(y) - self.height) * self.focal * inverse
        return np.stack(np.broadcast_arrays(across, down), axis=-1), inverse


SUPERSAMPLE = 2
_SHIFT = 4  # binary digits after the point in the coordinates given to OpenCV


class Texture:
    """An image with copies halved in each direction (a ripmap), made when first asked for.

    image: uint8, grey (H,W), RGB (H,W,3), or (H,W,4) with colours premultiplied by alpha.
    """

    def __init__(self, image: Array) -> None:
        self.image = np.ascontiguousarray(image)
        self.opaque = image.ndim == 2 or image.shape[2] == 3
        self._levels: dict[tuple[int, int], Array] = {(0, 0): self.image}

    def fitting(self, width: float, height: float) -> Array:
        """Return the smallest copy that is at least as large as width x height pixels."""
        i = _halvings(self.image.shape[1], width)
        j = _halvings(self.image.shape[0], height)
        return self.level(i, j)

    def level(self, i: int, j: int) -> Array:
        """Return the copy that is halved i times in width and j times in height."""
        if (i, j) not in self._levels:
            size = (max(1, self.image.shape[1] >> i), max(1, self.image.shape[0] >> j))
            self._levels[i, j] = cv2.resize(self.image, size, interpolation=cv2.INTER_AREA)
        return self._levels[i, j]


def _halvings(texels: int, pixels: float) -> int:
    """Count how often the texels may be halved and still be at least as many as the pixels."""
    return max(0, int(texels / max(pixels, 1.0)).bit_length() - 1)


class Canvas:
    """Where one frame is painted. Coordinates are pixels of the enlarged image, y downwards."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width * SUPERSAMPLE, height * SUPERSAMPLE
        self.image = np.zeros((self.height, self.width, 3), np.uint8)
        self.labels: Array = np.zeros((height, width), np.uint8)
        self.inverse_depth = np.zeros((height, width), np.float32)
        self.instances = np.zeros((height, width), np.int32)

    def quad(
        self,
        texture: Texture,
        corners: Array,
        inverse_depths: Array,
        label: int | None,
        part: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        """Paint a plane quad. corners: (4,2), the texture's top left, top right, bottom right,
        bottom left; inverse_depths: (4,), 1/m; label None leaves labels and depth alone;
        part: the columns of the texture to show, as shares of its width."""
        region = self._region(corners)
        if region is None:
            return
        left, top, right, bottom = region
        a, b, c, d = corners.tolist()
        across, down = max(math.dist(a, b), math.dist(c, d)), max(math.dist(a, d), math.dist(b, c))
        source = texture.fitting(across / (part[1] - part[0]), down)
        rows, columns = source.shape[:2]
        u0, u1 = part[0] * columns - 0.5, part[1] * columns - 0.5
        texels = np.array(((u0, -0.5), (u1, -0.5), (u1, rows - 0.5), (u0, rows - 0.5)), np.float32)
        target = (corners - (left + 0.5, top + 0.5)).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(texels, target)
        size = (right - left, bottom - top)
        if texture.opaque:
            patch = cv2.warpPerspective(source, matrix, size, borderMode=cv2.BORDER_REPLICATE)
            mask = np.zeros(size[::-1], np.uint8)
            cv2.fillConvexPoly(mask, _fixed(corners - (left, top)), 255, cv2.LINE_8, _SHIFT)
            cv2.copyTo(patch, mask, self.image[top:bottom, left:right])
        else:
            patch = cv2.warpPerspective(source, matrix, size)
            mask = self._mix(patch, region)
        if label is not None:
            plane = _plane(corners, inverse_depths, region)
            self._note(mask, region, label, plane, 0)

    def sprite(
        self,
        texture: Texture,
        corner: tuple[float, float],
        size: tuple[float, float],
        inverse_depth: float,
        label: int | Array,
        instance: int = 0,
    ) -> None:
        """Paint an upright image with alpha. corner: its top left; size: (width, height).

        label: one for all of it, or a label map of any size for the whole sprite."""
        x, y = corner
        corners = np.array(((x, y), (x + size[0], y + size[1])))
        region = self._region(corners)
        if region is None:
            return
        left, top, right, bottom = region
        source = texture.fitting(*size)
        across, down = size[0] / source.shape[1], size[1] / source.shape[0]
        matrix = _scaling(across, down, x - left, y - top)
        patch = cv2.warpAffine(source, matrix, (right - left, bottom - top))
        mask = self._mix(patch, region)
        plane = np.full(
            ((bottom - top) // SUPERSAMPLE, (right - left) // SUPERSAMPLE),
            inverse_depth,
            np.float32,
        )
        if isinstance(label, Array):
            matrix = _scaling(
                size[0] / label.shape[1] / SUPERSAMPLE,
                size[1] / label.shape[0] / SUPERSAMPLE,
                (x - left) / SUPERSAMPLE,
                (y - top) / SUPERSAMPLE,
            )
            drawn = cv2.warpAffine(
                label,
                matrix,
                plane.shape[::-1],
                flags=cv2.INTER_NEAREST,
                borderMode=cv2.BORDER_REPLICATE,
            )
            self._note(mask, region, drawn, plane, instance)
        else:
            self._note(mask, region, label, plane, instance)

    def polygons(
        self,
        points: Array,
        counts: Array,
        colours: list[tuple[float, float, float]],
        inverse_depths: Array,
        outline: Array,
        label: int,
        instance: int,
    ) -> None:
        """Paint convex polygons in this order, each in one colour.

        points: (F,N,2), of which face f takes the first counts[f]; inverse_depths: (F,); outline:
        (F,) bool, whether a face is noted in labels, depth and instances or painted alone.
        """
        points = np.clip(points, -30_000, 30_000)
        fine, coarse = _fixed(points), _fixed(points / SUPERSAMPLE)
        for face, (count, depth) in enumerate(
            zip(counts.tolist(), inverse_depths.tolist(), strict=True)
        ):
            cv2.fillConvexPoly(self.image, fine[face, :count], colours[face], cv2.LINE_8, _SHIFT)
            if outline[face]:
                shape = coarse[face, :count]
                cv2.fillConvexPoly(self.labels, shape, label, cv2.LINE_8, _SHIFT)
                cv2.fillConvexPoly(self.inverse_depth, shape, depth, cv2.LINE_8, _SHIFT)
                cv2.fillConvexPoly(self.instances, shape, instance, cv2.LINE_8, _SHIFT)

    def _region(self, corners: Array) -> tuple[int, int, int, int] | None:
        """Compute the bounding box on the canvas, in whole frame pixels; None if it is empty."""
        across, down = corners[:, 0].tolist(), corners[:, 1].tolist()
        left = max(math.floor(min(across) / SUPERSAMPLE) * SUPERSAMPLE, 0)
        top = max(math.floor(min(down) / SUPERSAMPLE) * SUPERSAMPLE, 0)
        right = min(math.ceil(max(across) / SUPERSAMPLE) * SUPERSAMPLE, self.width)
        bottom = min(math.ceil(max(down) / SUPERSAMPLE) * SUPERSAMPLE, self.height)
        if right - left < SUPERSAMPLE or bottom - top < SUPERSAMPLE:
            return None
        return left, top, right, bottom

    def _mix(self, patch: Array, region: tuple[int, int, int, int]) -> Array:
        """Lay a premultiplied RGBA patch over the image; returns its alpha."""
        left, top, right, bottom = region
        alpha = cv2.extractChannel(patch, 3)
        through = cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2RGB)
        under = self.image[top:bottom, left:right]
        colour = cv2.cvtColor(patch, cv2.COLOR_RGBA2RGB)
        under[...] = cv2.add(cv2.multiply(under, through, scale=1 / 255), colour)
        return alpha

    def _note(
        self,
        mask: Array,
        region: tuple[int, int, int, int],
        label: int | Array,
        plane: Array,
        instance: int,
    ) -> None:
        """Write label, inverse depth and instance where more than half of a frame pixel is hit."""
        left, top, right, bottom = (edge // SUPERSAMPLE for edge in region)
        share = cv2.resize(mask, plane.shape[::-1], interpolation=cv2.INTER_AREA)
        hit = share > 127
        window = np.s_[top:bottom, left:right]
        np.copyto(self.labels[window], label, where=hit, casting="unsafe")
        np.copyto(self.instances[window], instance, where=hit)
        np.copyto(self.inverse_depth[window], plane, where=hit)


def _fixed(points: Array) -> Array:
    """Convert pixel edges to OpenCV's fixed-point pixel centres."""
    return np.round((points - 0.5) * (1 << _SHIFT)).astype(np.int32)


def _scaling(across: float, down: float, x: float, y: float) -> Array:
    """Make the affine matrix that enlarges about the corner and moves that to (x, y)."""
    return np.array(
        ((across, 0.0, x + 0.5 * across - 0.5), (0.0, down, y + 0.5 * down - 0.5)), np.float32
    )


def _plane(corners: Array, inverse_depths: Array, region: tuple[int, int, int, int]) -> Array:
    """Compute 1/depth at the region's frame pixels: of a plane it is linear in the image."""
    left, top, right, bottom = region
    (x0, y0), (x1, y1), _, (x3, y3) = corners.tolist()
    value, across, down = inverse_depths[[0, 1, 3]].tolist()
    area = (x1 - x0) * (y3 - y0) - (x3 - x0) * (y1 - y0)
    a = ((across - value) * (y3 - y0) - (down - value) * (y1 - y0)) / area
    b = ((down - value) * (x1 - x0) - (across - value) * (x3 - x0)) / area
    c = value - a * x0 - b * y0
    x = np.arange(left, right, SUPERSAMPLE) + SUPERSAMPLE / 2
    y = np.arange(top, bottom, SUPERSAMPLE) + SUPERSAMPLE / 2
    values = a * x[None, :] + b * y[:, None] + c
    return np.clip(values, inverse_depths.min(), inverse_depths.max()).astype(np.float32)
