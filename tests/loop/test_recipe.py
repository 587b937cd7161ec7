"""Recipes: what is shipped loads, overrides are laid over it, and faults are told by name."""

import tomllib
from pathlib import Path

import pytest

from backflip.algorithms import ALGORITHMS, DPOSettings, PPOSettings
from backflip.config import Settings
from backflip.errors import SettingsError
from backflip.loop import Recipe, load_recipe, shipped_recipes

SHIPPED = sorted(shipped_recipes())


@pytest.fixture
def write(tmp_path: Path):
    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return make


def lookup(recipe: Recipe, path: str):
    found = recipe
    for part in path.split("."):
        found = getattr(found, part)
    return found


def leaves(data: dict, path: str = ""):
    for key, value in data.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_loads_as_it_is_written(name):
    recipe = load_recipe(name)
    data = tomllib.loads(shipped_recipes()[name].read_text())
    assert recipe.name == name
    data.pop("base", None)
    for path, value in leaves(data):
        found = lookup(recipe, path)
        if not isinstance(value, list):
            assert found == value, path
        elif value and not isinstance(value[0], dict):
            assert list(found) == value, path


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_kept_with_a_run_is_the_same_recipe(name):
    recipe = load_recipe(name)
    again = Recipe.parse(recipe.model_dump(mode="json"))
    assert again == recipe
    assert again.run_id == recipe.run_id


def test_the_demos_differ_from_their_base_only_where_they_say_so():
    base = dict(leaves(load_recipe("demo").model_dump(exclude={"algorithm"})))
    for name in ("demo-dpo", "demo-float32"):
        own = dict(leaves(tomllib.loads(shipped_recipes()[name].read_text())))
        other = dict(leaves(load_recipe(name).model_dump(exclude={"algorithm"})))
        assert {path for path in base if base[path] != other[path]} <= set(own)


def test_overrides_win_the_last_most(write):
    path = write("a.toml", 'seed = 3\n[loop]\nrounds = 5\n[reward]\naxes = ["helpful"]')
    recipe = load_recipe(
        path, ["loop.rounds=7", "loop.rounds = 8", "reward.axes=['safe', 'kind']", "name=mine"]
    )
    assert (recipe.seed, recipe.loop.rounds, recipe.name) == (3, 8, "mine")
    assert recipe.reward.axes == ("safe", "kind")
    assert load_recipe(path).loop.rounds == 5


def test_a_base_lies_under_by_name_or_by_path(write):
    write("deep/base.toml", 'base = "demo"\nseed = 1\n[loop]\nrounds = 4\nwarn_kl = 9.0')
    path = write("mine.toml", 'base = "deep/base.toml"\n[loop]\nrounds = 3')
    recipe = load_recipe(path)
    assert (recipe.seed, recipe.loop.rounds, recipe.loop.warn_kl) == (1, 3, 9.0)
    assert recipe.model == load_recipe("demo").model


def test_another_algorithm_replaces_the_bases_and_the_same_adds_to_it(write):
    other = load_recipe(write("a.toml", 'base = "demo"\n[algorithm]\ntype = "dpo"\nbeta = 0.2'))
    assert other.algorithm == DPOSettings(beta=0.2)
    same = load_recipe(write("b.toml", 'base = "demo"\n[algorithm]\ntype = "ppo"\nclip = 0.3'))
    assert same.algorithm == load_recipe("demo").algorithm.model_copy(update={"clip": 0.3})
    unsaid = load_recipe(write("c.toml", 'base = "demo"\n[algorithm]\nclip = 0.3'))
    assert unsaid.algorithm == same.algorithm


def test_shorthands_in_a_file_and_on_the_command_line(write):
    plain = write("a.toml", 'feedback = "people"\nalgorithm = "dpo"')
    based = write("b.toml", 'base = "demo"\nfeedback = "people"\nalgorithm = "dpo"')
    assert load_recipe(plain).feedback.source == "people"
    assert load_recipe(plain).algorithm == DPOSettings()
    demo = load_recipe("demo")
    people = demo.feedback.model_copy(update={"source": "people"})
    for recipe in (load_recipe(based), load_recipe("demo", ["feedback=people", "algorithm=dpo"])):
        assert recipe.feedback == people
        assert recipe.algorithm == DPOSettings()
    assert load_recipe("demo", ['feedback = "people"']).feedback == people
    both = load_recipe("demo", ["algorithm=dpo", "algorithm.beta=0.3"])
    assert both.algorithm == DPOSettings(beta=0.3)


def test_without_a_type_it_is_ppo():
    assert Recipe().algorithm == PPOSettings()
    assert Recipe.parse({"algorithm": {"clip": 0.1}}).algorithm == PPOSettings(clip=0.1)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_recipe_takes_every_registered_algorithm(name):
    recipe = Recipe.parse({"algorithm": name})
    assert type(recipe.algorithm) is ALGORITHMS[name].settings_type


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loop.round=3", "unknown key 'loop.round'; did you mean 'loop.rounds'"),
        ("lop.rounds=3", "unknown key 'lop'; did you mean 'loop'"),
        ("algorithm.clp=0.1", "unknown key 'algorithm.clp'; did you mean 'algorithm.clip'"),
        ("algorithm.optimizer.learning_rat=1", "did you mean 'algorithm.optimizer.learning_rate'"),
        ("reward.model.lora.rnk=4", "did you mean 'reward.model.lora.rank'"),
        ("reward.mixture.wieghts.a=4", "did you mean 'reward.mixture.weights'"),
        ("algorithm=pppo", "algorithm: .*'pppo'"),
        ("feedback.kinds=['comparisn']", "feedback.kinds.0: .*'comparison'"),
        ("sampling.num_samples=4", r"unknown key 'sampling\.num_samples'"),
        ("loop.rounds=0", "loop.rounds: .*at least 1"),
        ("loop.rounds", "not of the form key.path=value"),
        ("seed.x=1", "'seed.x' leads through a value"),
        ("name=../up", "name: "),
        ("sampling.top_k=5", "ppo learns from the policy's own distribution"),
        ("sampling.temperature=0", "ppo learns from the policy's own distribution"),
        ("prompts.source=env:backflip/Point-v0", 'clips have gold "environment"'),
    ],
)
def test_faults_name_the_key_and_the_nearest(override, message, write):
    path = write("a.toml", "seed = 1\n[algorithm]\nclip = 0.1\n[reward.model.lora]\nrank = 2")
    with pytest.raises(SettingsError, match=message) as caught:
        load_recipe(path, [override])
    assert caught.value.where in (str(path), None)


@pytest.mark.parametrize("kind", ["correction", "demonstration"])
def test_teachers_are_not_asked_to_write_clips(write, kind):
    text = '[prompts]\nsource = "env:backflip/Point-v0"\n[feedback]\ngold = "environment"'
    path = write("a.toml", text)
    asked = f"feedback.kinds=['comparison', '{kind}']"
    with pytest.raises(SettingsError, match=f"cannot write a clip.* no {kind} .*like comparison"):
        load_recipe(path, [asked])
    assert load_recipe(path, [asked, "feedback=people"]).feedback.kinds[1] == kind
    assert load_recipe(path, [asked, "prompts.source=p.txt", "feedback.gold=sentiment"])


def test_an_algorithm_that_does_not_sample_may_filter(write):
    path = write("a.toml", 'algorithm = "dpo"\n[sampling]\ntop_k = 5')
    assert load_recipe(path).sampling.top_k == 5


def test_another_algorithms_setting_is_refused(write):
    with pytest.raises(SettingsError, match=r"unknown key 'algorithm\.(dpo\.)?clip'"):
        load_recipe(write("a.toml", '[algorithm]\ntype = "dpo"\nclip = 0.2'))


def test_files_that_cannot_be_used(write):
    with pytest.raises(SettingsError, match="no recipe 'dmo'") as caught:
        load_recipe("dmo")
    assert "demo" in caught.value.hint
    with pytest.raises(SettingsError, match="not valid TOML"):
        load_recipe(write("a.toml", "seed = "))
    with pytest.raises(SettingsError, match="base is not the name"):
        load_recipe(write("b.toml", "base = 3"))
    with pytest.raises(SettingsError, match="no recipe 'nowhere"):
        load_recipe(write("c.toml", 'base = "nowhere.toml"'))


def test_recipes_that_start_from_each_other_are_refused(write):
    path = write("x.toml", 'base = "y.toml"')
    write("y.toml", 'base = "sub/../x.toml"')
    write("sub/z.toml", "")
    with pytest.raises(SettingsError, match="in a circle"):
        load_recipe(path)


def other_value(value):
    """Another value of the same type, inside every range there is."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.97 + 0.001
    return f"{value}x"


def changed(settings: Settings, path: tuple[str, ...], value) -> Settings:
    name, *rest = path
    if rest:
        value = changed(getattr(settings, name), tuple(rest), value)
    return settings.model_copy(update={name: value})


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # a text where a number may stand
def test_the_run_changes_with_any_setting():
    full = {"pretrain": {"scratch": {}}, "sft": {}, "model": {"lora": {}}}
    full |= {"feedback": {"judge": {}}}
    for algorithm in ALGORITHMS:
        recipe = Recipe.parse({**full, "algorithm": algorithm})
        ids = {recipe.run_id: "nothing"}
        for path, value in leaves(recipe.model_dump()):
            parts = tuple(path.split("."))
            try:
                other = changed(recipe, parts, other_value(value))
            except AttributeError:  # a dictionary's own keys
                continue
            assert other.run_id not in ids, f"{path} and {ids.get(other.run_id)}"
            ids[other.run_id] = path
        assert len(ids) > 80


def test_the_run_is_the_same_however_the_recipe_was_written(write):
    one = load_recipe(write("a.toml", "[loop]\nrounds = 3\n[sampling]\nmax_tokens = 9"))
    other = load_recipe(write("b.toml", "[sampling]\nmax_tokens = 9"), ["loop.rounds=3"])
    assert one.run_id == other.run_id


def test_the_reward_model_starts_from_the_policys_model_unless_it_names_its_own(write):
    path = write("a.toml", '[model]\nname = "mine"\n[reward.model.lora]\nrank = 3')
    recipe = load_recipe(path)
    assert recipe.reward.model.name == "mine"
    assert recipe.reward.model.lora.rank == 3
    own = load_recipe(path, ["reward.model.name=other", "reward.epochs=3"])
    assert (own.model.name, own.reward.model.name, own.reward.epochs) == ("mine", "other", 3)
    assert Recipe(model=recipe.model).reward.model.name == "mine"
    assert Recipe().reward.model.name == Recipe().model.name
    assert Recipe.parse(own.model_dump(mode="json")) == own
