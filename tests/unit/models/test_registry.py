import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hpo import models
from hpo.models import ModelError

USER_MODULE = """
from torch import nn

class Linear(nn.Module):
    def __init__(self, classes: int, in_channels: int = 1) -> None:
        super().__init__()
        self.layer = nn.Linear(in_channels * 28 * 28, classes)

    def forward(self, images):
        return self.layer(images.flatten(1))

class Lazy(nn.Module):
    def __init__(self, classes: int, in_channels: int = 1) -> None:
        super().__init__()
        maps = nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()
        self.layers = nn.Sequential(*maps, nn.Flatten(), nn.LazyLinear(classes))

    def forward(self, images):
        return self.layers(images)

class Odd(nn.Module):
    def __init__(self, classes: int, in_channels: int = 1) -> None:
        super().__init__()
        if classes % 2:
            raise ValueError(f"{classes} classes are odd")
        len(3)

class Wide(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()

class NotAModule:
    pass

class Sized(Linear):
    def __init__(self, classes: int, in_channels: int = 1, *, width: int = 4, name: str = "a") -> None:
        super().__init__(classes, in_channels)
        self.width, self.name = width, name

class AnySize(Sized):
    def __init__(self, **keywords) -> None:
        super().__init__(**keywords)

class Table(nn.Module):
    def __init__(self, in_features: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, 4), nn.LazyLinear(outputs))

    def forward(self, rows):
        return self.layers(rows)

def function(classes: int, in_channels: int = 1):
    return Linear(classes, in_channels)

network = Linear(2)
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a user's module into the current folder and return its name."""
    name = "networks_of_mine"
    (tmp_path / f"{name}.py").write_text(USER_MODULE)
    (tmp_path / "broken_of_mine.py").write_text("raise RuntimeError('first line\\nsecond line')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def message(error: pytest.ExceptionInfo[ModelError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_importing_models_loads_no_torch() -> None:
    code = "import sys, models; models.check('lenet'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_of_registered_models() -> None:
    expected = ("lenet", "alexnet", "vggnet", "resnet", "spinalnet", "ensnet", "ensnet-vote")
    assert models.names() == expected


@pytest.mark.parametrize("name", [*models.names(), "mine:Net", "package.module:Class"])
def test_check_accepts_registered_names_and_classes(name: str) -> None:
    models.check(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "LeNet",
        "mine.Net",
        ":Net",
        "mine:",
        "a..b:Net",
        "a/b:Net",
        "a:b:c",
        "a:B()",
        " a:B",
    ],
)
def test_check_refuses_other_names(name: str) -> None:
    with pytest.raises(ModelError) as error:
        models.check(name)
    assert repr(name) in message(error)
    assert "lenet, alexnet, vggnet, resnet, spinalnet, ensnet, ensnet-vote" in message(error)
    assert "package.module:Class" in message(error)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'lenett': did you mean lenet") as error:
        models.resolve("lenett")
    message(error)
    with pytest.raises(ModelError) as error:
        models.check("transformer")
    assert "did you mean" not in message(error)


@pytest.mark.parametrize("name", models.names())
def test_resolve_finds_every_registered_class(name: str) -> None:
    assert issubclass(models.resolve(name), nn.Module)


def test_every_architecture_cites_its_paper_first() -> None:
    for module in {models.resolve(name).__module__ for name in models.names()}:
        source = sys.modules[module].__file__
        assert source is not None
        first = Path(source).read_text().splitlines()[0]
        assert first.startswith('"""')
        assert any(f"({year})" in first for year in range(1990, 2030)), module


def test_users_class_is_built(user_module: str) -> None:
    network = models.build(f"{user_module}:Linear", 7, in_channels=3)
    assert network(torch.zeros(2, 3, 28, 28)).shape == (2, 7)


def test_network_gets_its_keywords(user_module: str) -> None:
    network: Any = models.build(f"{user_module}:Sized", 7, 1, None, {"width": 9, "name": "b"})
    assert (network.width, network.name) == (9, "b")
    with pytest.raises(ModelError) as error:
        models.build(f"{user_module}:Sized", 7, 1, None, {"depth": 9})
    call = "Sized(classes=7, in_channels=1, depth=9)"
    assert f"must be buildable as {call}" in message(error)


def test_keywords_of_a_constructor_are_known_unless_it_takes_any(user_module: str) -> None:
    assert models.keywords_of(f"{user_module}:Sized") == frozenset(
        {"classes", "in_channels", "width", "name"}
    )
    assert models.keywords_of(f"{user_module}:AnySize") is None
    assert models.keywords_of("lenet") == frozenset({"classes", "in_channels"})


def test_current_folder_comes_after_what_is_installed(user_module: str) -> None:
    before, checkout = list(sys.path), str(Path(__file__).parents[3])
    models.resolve(f"{user_module}:Linear")
    # A checkout has folders `data` and `models`, which are not those of the user.
    index = before.index(checkout) if checkout in before else len(before)
    assert sys.path == [*before[:index], str(Path.cwd()), *before[index:]]


def test_lazy_layers_get_their_shapes(user_module: str) -> None:
    network = models.build(f"{user_module}:Lazy", 7, 3, size=(9, 8))
    assert network.training
    assert {name: tuple(p.shape) for name, p in network.named_parameters()} == {
        "layers.0.weight": (4, 3, 3, 3),
        "layers.0.bias": (4,),
        "layers.1.weight": (4,),
        "layers.1.bias": (4,),
        "layers.3.weight": (7, 4 * 7 * 6),
        "layers.3.bias": (7,),
    }
    assert torch.equal(network.state_dict()["layers.1.running_mean"], torch.zeros(4))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (3, r"raised ValueError at networks_of_mine\.py:\d+: 3 classes are odd"),
        (4, r"raised TypeError at networks_of_mine\.py:\d+: object of type 'int' has no len"),
    ],
)
def test_build_says_where_a_constructor_raised(user_module: str, classes: int, message: str) -> None:
    title = rf"^model 'networks_of_mine:Odd': Odd\(classes={classes}, in_channels=1\)"
    with pytest.raises(ModelError, match=f"{title} {message}"):
        models.build(f"{user_module}:Odd", classes)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (
            "no_such_module:Net",
            "No module named 'no_such_module'; no_such_module has to be installed",
        ),
        ("networks_of_mine:Missing", "networks_of_mine has no Missing"),
        ("broken_of_mine:Net", "raised RuntimeError at broken_of_mine.py:1: first line second line"),
        ("networks_of_mine:NotAModule", "must be a subclass of torch.nn.Module"),
        (
            "networks_of_mine:function",
            "must be a subclass of torch.nn.Module, not a function; name the class of the network",
        ),
        ("networks_of_mine:network", "is a network and no class; name its class: networks_of_mine:Linear"),
    ],
)
def test_resolve_refuses_a_class_with_the_reason(user_module: str, name: str, rule: str) -> None:
    with pytest.raises(ModelError) as error:
        models.resolve(name)
    assert name in message(error)
    assert rule in message(error)


@pytest.mark.parametrize("name", ["shapes.py:Net", "shapes.Net", "./shapes.py:Net"])
def test_near_miss_names_the_right_form(name: str) -> None:
    with pytest.raises(ModelError, match=r"unknown model .*: did you mean shapes:Net\? it must be one of"):
        models.check(name)


def test_build_refuses_a_constructor_with_other_parameters(user_module: str) -> None:
    with pytest.raises(ModelError) as error:
        models.build(f"{user_module}:Wide", 62)
    assert "must be buildable as Wide(classes=62, in_channels=1)" in message(error)
    assert "unexpected keyword argument 'classes'" in message(error)
