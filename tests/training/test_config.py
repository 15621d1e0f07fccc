import pytest

from cr_interp.errors import UserError
from training.objectives import arm_terms
from training.settings import config_names, load_config


@pytest.mark.parametrize("name", config_names())
def test_every_configuration_of_the_project_is_valid(name):
    config = load_config(name)
    assert config.name == name.rpartition("/")[2]
    assert all(arm_terms(arm, config.own_arms) for arm in config.arms)


def test_overrides_reach_their_section():
    config = load_config(
        "organism-shift", ["training.lr=1e-3", "steps=7", "seeds=[4]", "own_arms={a: ['KL(q_x || f)']}"]
    )
    assert (config.training.lr, config.training.steps, config.seeds) == (1e-3, 7, (4,))
    assert config.own_arms == {"a": ("KL(q_x || f)",)}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.stepz=3", "Did you mean 'steps'"),
        ("taks=x", "Did you mean 'task'"),
        ("evaluation.example=3", "Did you mean 'examples'"),
        ("training.lr=-1", "greater than 0"),
        ("training.steps=many", "found 'many'"),
        ("nonsense", "key=value"),
        ("name.x=1", "plain value"),
        ("training.lr=[", "not valid YAML"),
    ],
)
def test_bad_overrides_are_explained(override, said):
    with pytest.raises(UserError, match=said):
        load_config("organism-shift", [override])


def test_unknown_and_broken_files(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'organism-shift'"):
        load_config("organism-shfit")
    (tmp_path / "a.yaml").write_text("- a list")
    with pytest.raises(UserError, match="mapping"):
        load_config(str(tmp_path / "a.yaml"))
    (tmp_path / "b.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(str(tmp_path / "b.yaml"))
    (tmp_path / "c.yaml").write_text("name: !!python/object/apply:os.system ['exit 1']")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(str(tmp_path / "c.yaml"))
