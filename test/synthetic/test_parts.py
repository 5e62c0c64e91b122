"""The parts of the renderer: canvas, camera, noise, ground, street and traffic."""

from __future__ import annotations

import numpy as np
import pytest

from unirestore_ros.synthetic.canvas import Bend, Camera, Canvas, Texture
from unirestore_ros.synthetic.frame import BUILDING, CAR, PEDESTRIAN, SIGN, Box, boxes_of
from unirestore_ros.synthetic.ground import Street, _dash_share
from unirestore_ros.synthetic.noise import generator, sway, texture_noise
from unirestore_ros.synthetic.scene import VIEW_M, Traffic
from unirestore_ros.synthetic.sky import make_light
from unirestore_ros.synthetic.street import BLOCK_M, Town
from unirestore_ros.synthetic.textures import Textures

STREET = Street(lanes=1, lane=3.2, parking=2.1, pavement=2.5, left_hand=True)


def straight_camera() -> Camera:
    flat = Bend(np.zeros(1), np.ones(1), np.zeros(1))
    return Camera(s=100.0, x=0.0, height=1.5, focal=200.0, column=80.0, horizon=60.0, bend=flat)


def test_projection_is_a_pinhole() -> None:
    points, inverse = straight_camera().project(
        np.array([0.0, 2.0]), np.array([1.5, 0.0]), np.array([110.0, 120.0])
    )
    assert inverse == pytest.approx([0.1, 0.05])
    assert points[0] == pytest.approx([80.0, 60.0])
    assert points[1] == pytest.approx([80.0 + 2 * 200 / 20, 60.0 + 1.5 * 200 / 20])


def test_bend_is_seen_along_its_own_tangent() -> None:
    bend = Bend(np.array([8.0]), np.array([400.0]), np.array([0.3]))
    camera = Camera(50.0, 0.0, 1.5, 200.0, 80.0, 60.0, bend)
    assert camera.sideways(50.0) == pytest.approx(0.0)
    assert abs(float(camera.sideways(51.0))) < 0.01
    assert abs(float(camera.sideways(150.0))) > 1.0


def test_quad_is_textured_labelled_and_plane_in_depth() -> None:
    canvas = Canvas(40, 30)
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:, 8:] = 200
    corners = np.array([(10.0, 10.0), (70.0, 20.0), (70.0, 40.0), (10.0, 50.0)])
    canvas.quad(Texture(picture), corners, np.array([0.2, 0.1, 0.1, 0.2]), BUILDING)
    assert canvas.labels[15, 20] == BUILDING
    assert canvas.labels[2, 20] == 0
    assert canvas.image[30, 14].max() == 0
    assert canvas.image[30, 64].min() == 200
    assert canvas.inverse_depth[15, 20] == pytest.approx(0.2 - 0.1 * (41 - 10) / 60, abs=1e-3)


def test_quad_shows_the_part_asked_for() -> None:
    canvas = Canvas(20, 20)
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:, 8:] = 200
    corners = np.array([(4.0, 4.0), (36.0, 4.0), (36.0, 36.0), (4.0, 36.0)])
    canvas.quad(Texture(picture), corners, np.full(4, 0.1), BUILDING, (0.5, 1.0))
    assert canvas.image[20, 8].min() == 200


def test_sprite_mixes_by_alpha_and_notes_where_it_is_solid() -> None:
    canvas = Canvas(20, 20)
    canvas.image[...] = 100
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[:, :4] = (50, 50, 50, 255)
    picture[:, 4:] = (20, 20, 20, 51)
    canvas.sprite(Texture(picture), (8.0, 8.0), (16.0, 16.0), 0.25, PEDESTRIAN, 7)
    assert canvas.image[16, 11].tolist() == [50, 50, 50]
    assert canvas.image[16, 21] == pytest.approx([100, 100, 100], abs=2)  # 20 + 100 * 0.8
    assert canvas.labels[8, 5] == PEDESTRIAN
    assert canvas.instances[8, 5] == 7
    assert canvas.labels[8, 10] == 0
    assert canvas.inverse_depth[8, 5] == pytest.approx(0.25)


def test_sprite_with_a_label_map() -> None:
    canvas = Canvas(20, 20)
    picture = np.full((8, 8, 4), 255, np.uint8)
    labels = np.repeat(np.array([[SIGN], [2]], np.uint8), 4, axis=0)
    canvas.sprite(Texture(picture), (8.0, 8.0), (16.0, 16.0), 0.1, labels, 3)
    assert canvas.labels[5, 8] == SIGN
    assert canvas.labels[11, 8] == 2


def test_things_outside_the_canvas_change_nothing() -> None:
    canvas = Canvas(20, 20)
    corners = np.array([(-40.0, 4.0), (-20.0, 4.0), (-20.0, 36.0), (-40.0, 36.0)])
    canvas.quad(Texture(np.full((8, 8, 3), 9, np.uint8)), corners, np.full(4, 0.1), BUILDING)
    assert not canvas.image.any()
    assert not canvas.labels.any()


def test_texture_takes_the_copy_that_fits() -> None:
    texture = Texture(np.zeros((64, 128, 3), np.uint8))
    assert texture.fitting(128, 64).shape == (64, 128, 3)
    assert texture.fitting(40, 64).shape == (64, 64, 3)
    assert texture.fitting(1000, 9).shape == (16, 128, 3)


def test_boxes_leave_out_what_is_small() -> None:
    instances = np.zeros((40, 60), np.int32)
    labels = np.zeros((40, 60), np.uint8)
    instances[5:25, 10:20], labels[5:25, 10:20] = 4, PEDESTRIAN
    instances[30:33, 30:33], labels[30:33, 30:33] = 5, CAR  # nine pixels
    instances[5:10, 40:60], labels[5:10, 40:60] = 6, CAR  # too low
    labels[24, 10:20] = 2  # a pole in front of the feet
    assert boxes_of(instances, labels) == (Box("pedestrian", 10, 5, 10, 19, 190),)


def test_noise_falls_as_its_slope() -> None:
    rng = generator(1, "test")
    field = texture_noise(rng, 256, 256, 1.0)
    assert field.mean() == pytest.approx(0, abs=1e-3)
    assert field.std() == pytest.approx(1, abs=1e-3)
    amplitude = np.abs(np.fft.fft2(field))
    assert amplitude[0, 4:8].mean() / amplitude[0, 32:64].mean() == pytest.approx(8, rel=0.5)


def test_generators_are_stable_and_differ_by_key() -> None:
    draw = [generator(5, "tree", k).integers(1 << 30) for k in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]
    assert generator(6, "tree", 0).integers(1 << 30) != draw[0]
    assert generator(5, "tree", -3).integers(1 << 30) == generator(5, "tree", -3).integers(1 << 30)


def test_sway_stays_in_bounds() -> None:
    values = [sway(t, np.array([0.3, 2.0]), (3.0, 7.0)) for t in np.linspace(0, 50, 400)]
    assert max(values) <= 1.0
    assert min(values) >= -1.0
    assert np.ptp(values) > 1.0


def test_dashes_fill_their_share_of_the_road() -> None:
    s = np.linspace(0, 90, 9001)
    share = _dash_share(s, np.full_like(s, 0.01), 3.0, 9.0)
    assert share.mean() == pytest.approx(1 / 3, abs=0.01)
    assert _dash_share(np.array([50.0]), np.array([900.0]), 3.0, 9.0) == pytest.approx(
        1 / 3, abs=0.01
    )


def test_blocks_do_not_depend_on_each_other() -> None:
    light = make_light(4)

    def town() -> Town:
        return Town(4, STREET, Textures(4, light), 0.5)

    alone, after_others = town(), town()
    for index in range(3):
        after_others.block(index, -1)
    one, other = alone.block(7, 1), after_others.block(7, 1)
    assert np.array_equal(one.corners, other.corners)
    assert [thing.s for thing in one.standing] == [thing.s for thing in other.standing]
    places = [thing.s for thing in one.standing]
    assert all(7 * BLOCK_M <= s < 9 * BLOCK_M for s in places)
    assert (one.corners[..., 0] > 0).all()


def test_traffic_moves_at_its_own_speed() -> None:
    traffic = Traffic(11, STREET, Textures(11, make_light(11)))
    now = {v.vehicle.number: v.s for v in traffic.vehicles(20.0, 500.0) if v.oncoming}
    soon = {v.vehicle.number: v.s for v in traffic.vehicles(20.5, 500.0) if v.oncoming}
    common = now.keys() & soon.keys()
    assert common
    moved = np.median([soon[number] - now[number] for number in common])
    assert moved == pytest.approx(-5.0)
    ahead = np.array([v.s - 500.0 for v in traffic.vehicles(20.0, 500.0)])
    assert (ahead > 0).all()
    assert (ahead < VIEW_M + 60).all()
