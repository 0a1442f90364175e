from __future__ import annotations

import pytest

from taccuino.hub.offers import Offers, OptionsError, memory_label
from taccuino.settings import FlavourSettings, ImageSettings, Settings

SETTINGS = Settings.parse(
    {
        "images": [
            {"name": "base", "reference": "localhost/base", "default": True},
            {"name": "root", "reference": "localhost/root"},
            {"name": "gpu", "reference": "localhost/gpu", "groups": ["/gpu"]},
        ],
        "flavours": [
            {"cpus": [1, 0.5, 2], "memory": ["2G", "1G", "4G"]},
            {"cpus": [8], "memory": ["16G"], "groups": ["big"]},
        ],
    }
)


def offers(*groups: str) -> Offers:
    return Offers.of(SETTINGS, groups)


@pytest.mark.parametrize("nothing", [None, {}, {"image": None, "cpu": None}])
def test_what_is_missing_gets_its_default(nothing):
    chosen = offers().validate(nothing)
    assert chosen.as_user_options() == {
        "image": "base",
        "cpu": 1,
        "memory": "2G",
        "interface": "lab",
    }
    assert chosen.reference == "localhost/base"
    assert chosen.memory_bytes == 2 * 1024**3


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"cpu": "1"}, {"cpu": 1}),
        ({"cpu": "0.5"}, {"cpu": 0.5}),
        ({"cpu": 2.0}, {"cpu": 2}),
        ({"memory": "2048M"}, {"memory": "2G"}),
        ({"memory": "2GiB"}, {"memory": "2G"}),
        ({"memory": 2 * 1024**3}, {"memory": "2G"}),
        ({"memory": "4294967296"}, {"memory": "4G"}),
        ({"interface": "notebook"}, {"interface": "notebook"}),
        ({"image": "root"}, {"image": "root"}),
    ],
)
def test_equal_values_are_taken_in_any_spelling(given, kept):
    assert kept.items() <= offers().validate(given).as_user_options().items()


@pytest.mark.parametrize(
    ("hostile", "names"),
    [
        ({"image": "evil"}, "base or root"),
        ({"image": "registry.example.org/evil:latest"}, "base or root"),
        ({"image": "../../etc"}, "base or root"),
        ({"image": "gpu"}, "base or root"),  # only for members of gpu
        ({"image": "base "}, "base or root"),
        ({"image": 1}, "base or root"),
        ({"image": ["base"]}, "base or root"),
        ({"image": {"name": "base"}}, "base or root"),
        ({"image": True}, "base or root"),
        ({"image": ""}, "base or root"),
        ({"image": "b" * 10**6}, "base or root"),
        ({"cpu": 1e9}, "1, 0.5 or 2"),
        ({"cpu": "1e9"}, "1, 0.5 or 2"),
        ({"cpu": -1}, "1, 0.5 or 2"),
        ({"cpu": 0}, "1, 0.5 or 2"),
        ({"cpu": 3}, "1, 0.5 or 2"),
        ({"cpu": 8}, "1, 0.5 or 2"),  # only for members of big
        ({"cpu": float("nan")}, "1, 0.5 or 2"),
        ({"cpu": float("inf")}, "1, 0.5 or 2"),
        ({"cpu": "nan"}, "1, 0.5 or 2"),
        ({"cpu": "one"}, "1, 0.5 or 2"),
        ({"cpu": True}, "1, 0.5 or 2"),
        ({"cpu": [1]}, "1, 0.5 or 2"),
        ({"cpu": "0x1"}, "1, 0.5 or 2"),
        ({"cpu": "9" * 10**5}, "1, 0.5 or 2"),
        ({"cpu": 10**400}, "1, 0.5 or 2"),
        ({"memory": "-2G"}, "2G, 1G or 4G"),
        ({"memory": -2}, "2G, 1G or 4G"),
        ({"memory": 0}, "2G, 1G or 4G"),
        ({"memory": 2}, "2G, 1G or 4G"),  # bytes
        ({"memory": "1T"}, "2G, 1G or 4G"),
        ({"memory": float("nan")}, "2G, 1G or 4G"),
        ({"memory": float("inf")}, "2G, 1G or 4G"),
        ({"memory": 2.5}, "2G, 1G or 4G"),
        ({"memory": True}, "2G, 1G or 4G"),
        ({"memory": ["2G"]}, "2G, 1G or 4G"),
        ({"memory": "9" * 10**5}, "2G, 1G or 4G"),
        ({"memory": "9" * 60 + "T"}, "2G, 1G or 4G"),
        ({"memory": 10**400}, "2G, 1G or 4G"),
        ({"interface": "vscode"}, "lab or notebook"),
        ({"interface": "/lab/../../hub"}, "lab or notebook"),
        ({"interface": ["lab"]}, "lab or notebook"),
        ({"privileged": True}, "image, cpu, memory and interface"),
        ({"volumes": {"/": "/host"}}, "image, cpu, memory and interface"),
        ({"x" * 10**6: 1}, "image, cpu, memory and interface"),
        ({1: 2}, "image, cpu, memory and interface"),
        (["image"], "image, cpu, memory and interface"),
        ("base", "image, cpu, memory and interface"),
        (True, "image, cpu, memory and interface"),
    ],
)
def test_what_is_not_offered_is_refused_and_the_offers_named(hostile, names):
    with pytest.raises(OptionsError) as refused:
        offers().validate(hostile)
    assert names in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("group", ["gpu", "/gpu"])
def test_a_group_opens_an_image_with_or_without_a_leading_slash(group):
    assert offers(group).validate({"image": "gpu"}).reference == "localhost/gpu"


def test_cpus_and_memory_of_different_flavours_do_not_mix():
    mine = offers("big")
    assert mine.validate({"cpu": 8}).memory == "16G"
    assert mine.validate({"cpu": 8, "memory": "16G"}).cpu == 8
    with pytest.raises(OptionsError, match="with 8 CPUs; choose 16G"):
        mine.validate({"cpu": 8, "memory": "2G"})
    with pytest.raises(OptionsError, match="with 1 CPU; choose 2G, 1G or 4G"):
        mine.validate({"memory": "16G"})


def test_an_offered_image_joins_the_settings_and_may_take_a_name_over():
    extra = [
        ImageSettings(name="astro", reference="localhost/astro"),
        ImageSettings(name="root", reference="localhost/root:2"),
    ]
    mine = Offers.of(SETTINGS, [], extra)
    assert [image.name for image in mine.images] == ["base", "root", "astro"]
    assert mine.validate({"image": "root"}).reference == "localhost/root:2"


def test_the_default_is_the_first_image_when_the_marked_one_is_out_of_reach():
    images = (
        ImageSettings(name="first", reference="a"),
        ImageSettings(name="b", reference="b"),
    )
    mine = Offers(images, (FlavourSettings(cpus=[1], memory=["1G"]),))
    assert mine.validate({}).image == "first"


@pytest.mark.parametrize(
    "mine",
    [Offers((), (FlavourSettings(cpus=[1], memory=["1G"]),)), Offers(offers().images, ())],
)
def test_who_is_offered_nothing_is_told_so(mine):
    with pytest.raises(OptionsError, match="ask the operators"):
        mine.validate({})


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"image": "root", "cpu": 2, "memory": "4G", "interface": "notebook"}, None),
        ({"image": "gone", "cpu": 2}, {"image": "base", "cpu": 2}),
        ({"cpu": 8, "memory": "16G"}, {"cpu": 1, "memory": "2G"}),
        ({"evil": 1, "memory": "4G"}, {"memory": "4G"}),
        (None, {"image": "base"}),
        ("junk", {"image": "base"}),
    ],
)
def test_of_an_earlier_choice_what_is_still_offered_is_remembered(before, now):
    kept = offers().remembered(before).as_user_options()
    assert (now or before).items() <= kept.items()


@pytest.mark.parametrize(("size", "label"), [("2G", "2 GiB"), ("512M", "512 MiB")])
def test_memory_is_shown_with_its_unit(size, label):
    assert memory_label(size) == label
