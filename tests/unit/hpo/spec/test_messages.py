from pathlib import Path

import pytest
from support.study_file import TEXT

from hpo import data, models
from hpo.errors import SpecError
from hpo.spec.study_spec import StudySpec

LONG = "x" * 64
NAME_RULE = "must be at most 63 of a-z, 0-9, '-', '_', '.' and begin with a-z or 0-9"

# Text of the study file, its faulty replacement, and the message.
MISTAKES = {
    # the name and the seed
    "upper case": (
        "seed = 1",
        'name = "LeNet"',
        f'name = "LeNet": {NAME_RULE}',
    ),
    "dot first": (
        "seed = 1",
        'name = ".x"',
        f'name = ".x": {NAME_RULE}',
    ),
    "too long": (
        "seed = 1",
        f'name = "{LONG}"',
        f'name = "{LONG}": {NAME_RULE}',
    ),
    "a full training's name": (
        "seed = 1",
        'name = "x-full"',
        """name = "x-full": must not end in '-full': that is the name of a study's full training""",
    ),
    "name is a number": ("seed = 1", "name = 7", "name = 7: must be text in quotes"),
    "negative seed": ("seed = 1", "seed = -1", "seed = -1: must be at least 0"),
    "large seed": ("seed = 1", "seed = 4294967296", "seed = 4294967296: must be below 4294967296"),
    "seed is text": ("seed = 1", 'seed = "1"', 'seed = "1": must be a whole number'),
    "seed is a float": ("seed = 1", "seed = 1.0", "seed = 1.0: must be a whole number"),
    "seed is a truth value": ("seed = 1", "seed = true", "seed = true: must be a whole number"),
    "seed is a date": ("seed = 1", "seed = 2026-01-02", 'seed = "2026-01-02": must be a whole number'),
    "seed is a table": ("seed = 1", "seed = { n = 1 }", 'seed = {"n": 1}: must be a whole number'),
    # sections
    "section misspelt": ("[search]", "[serch]", "serch: unknown key; did you mean 'search'?"),
    "section unknown": (
        "[search]",
        "[gpu]\ncount = 1\n[search]",
        "gpu: unknown key; known: name, seed, model, data, train, objective, space, baseline, sampler, "
        "pruner, search, stop, full, promotion, export, engine, limits, resources",
    ),
    "objective unknown": (
        "[full]",
        '[objective]\nmetric = "error"\n[full]',
        """objective.metric = "error": must be one of 'loss', 'accuracy', 'macro_f1', 'balanced_accuracy', """
        "'rmse', 'mae' or 'r2'",
    ),
    "an own metric without a direction": (
        'name = "lenet"\n',
        'name = "lenet"\nmetrics = { worst = "own:worst" }\n[objective]\nmetric = "worst"\n',
        'objective.direction: is missing; is worst to "minimize" or to "maximize"?',
    ),
    "a direction of promotion without a metric": (
        "top = 2",
        'direction = "minimize"',
        "promotion.metric: is missing",
    ),
    "own metrics are no table": (
        'name = "lenet"\n',
        'name = "lenet"\nmetrics = "own:worst"\n',
        'model.metrics = "own:worst": must be a table',
    ),
    "own metric has the name of a metric": (
        'name = "lenet"\n',
        'name = "lenet"\nmetrics = { mae = "own:mae" }\n',
        """model.metrics = {"mae": "own:mae"}: name "mae": hpo has a metric of this name""",
    ),
    "own metric has a capital": (
        'name = "lenet"\n',
        'name = "lenet"\nmetrics = { Worst = "own:worst" }\n',
        """model.metrics = {"Worst": "own:worst"}: name "Worst": must be at most 32 of a-z, 0-9, '_' """
        "and begin with a letter",
    ),
    "own metric is no reference": (
        'name = "lenet"\n',
        'name = "lenet"\nmetrics = { worst = "own.worst" }\n',
        """model.metrics = {"worst": "own.worst"}: 'own.worst' is no function: did you mean own:worst? """
        "it must be your own as package.module:function",
    ),
    "own loss is no reference": (
        'name = "lenet"\n',
        'name = "lenet"\nloss = "huber"\n',
        "model.loss = \"huber\": 'huber' is no function: it must be your own as package.module:function",
    ),
    "a loss to maximize": (
        "[full]",
        '[objective]\ndirection = "maximize"\n[full]',
        'objective.direction: "maximize" is the wrong way: loss is a metric to minimize',
    ),
    "an accuracy to minimize": (
        "[full]",
        '[objective]\nmetric = "accuracy"\ndirection = "minimize"\n[full]',
        'objective.direction: "minimize" is the wrong way: accuracy is a metric to maximize',
    ),
    "a direction of another kind": (
        "[full]",
        "[objective]\ndirection = 1\n[full]",
        "objective.direction = 1: must be one of 'minimize' or 'maximize'",
    ),
    "a target in percent": (
        "[full]",
        '[objective]\nmetric = "accuracy"\n[stop]\ntarget = 95\n[full]',
        "stop.target: 95 is no accuracy, which is from 0 to 1",
    ),
    "a baseline outside of the space": (
        "[full]",
        "[baseline]\nlr = 0.5\nbatch_size = 16\n[full]",
        "baseline.lr: 0.5 is not in space.lr; add it there, or give a value of the space",
    ),
    "a baseline that is no table": (
        "seed = 1",
        "seed = 1\nbaseline = 1",
        "baseline = 1: must be a table",
    ),
    "unknown model to export": (
        "[full]",
        '[export]\nmodel = "all"\n[full]',
        """export.model = "all": must be one of 'best' or 'ensemble'""",
    ),
    "ensemble of one seed": (
        "[full]",
        '[export]\nmodel = "ensemble"\n[full]',
        'export.model: "ensemble" needs promotion.seeds of at least 2, not 1',
    ),
    "large shifts": ("[full]", "[export]\nshifts = 5\n[full]", "export.shifts = 5: must be at most 4"),
    "unknown engine": (
        "[full]",
        '[engine]\ncompile = "fast"\n[full]',
        """engine.compile = "fast": must be one of 'auto', 'always' or 'never'""",
    ),
    "unknown precision": (
        "[full]",
        '[engine]\nprecision = "half"\n[full]',
        """engine.precision = "half": must be one of 'auto', 'float32' or 'bfloat16'""",
    ),
    "section is a list": (
        "[promotion]\ntop = 2",
        "[[promotion]]",
        "promotion = [{}]: must be a table",
    ),
    # model and data
    "model unknown": (
        '"lenet"',
        '"lenett"',
        "model.name = \"lenett\": unknown model 'lenett': did you mean lenet or alexnet or resnet? "
        f"it must be one of {', '.join(models.names())}, or a class of your own as package.module:Class",
    ),
    "model is a number": ('"lenet"', "5", "model.name = 5: must be text in quotes"),
    "data unknown": (
        '"digits"',
        '"digit"',
        "data.name = \"digit\": no data set 'digit': did you mean digits? it must be one of "
        f"{', '.join(data.names())}, or your own as package.module:function",
    ),
    "mini is zero": ("mini = 0.5", "mini = 0.0", "data.mini = 0.0: must be above 0.0"),
    "mini is too much": ("mini = 0.5", "mini = 0.6", "data.mini = 0.6: must be at most 0.5"),
    "mini is text": ("mini = 0.5", 'mini = "half"', 'data.mini = "half": must be a number'),
    "mini is nan": ("mini = 0.5", "mini = nan", "data.mini = NaN: must be a finite number"),
    "mini is infinite": ("mini = 0.5", "mini = inf", "data.mini = Infinity: must be a finite number"),
    "validation is too much": (
        "mini = 0.5",
        "validation = 0.9",
        "data.validation = 0.9: must be at most 0.5",
    ),
    "mean of unscaled pixels": ("mini = 0.5", "mean = 44.3", "data.mean = 44.3: must be at most 1.0"),
    "std is zero": ("mini = 0.5", "std = 0", "data.std = 0: must be above 0.0"),
    "mean of no channel": (
        "mini = 0.5",
        "mean = []",
        "data.mean = []: must be a number, or a list of one number per channel",
    ),
    "mean of a channel": ("mini = 0.5", "mean = [0.1, 2]", "data.mean = [0.1, 2]: must be at most 1.0"),
    "mean is text": (
        "mini = 0.5",
        'mean = "0.1"',
        'data.mean = "0.1": must be a number, or a list of one number per channel',
    ),
    "std of a channel": ("mini = 0.5", "std = [0.1, -1]", "data.std = [0.1, -1]: must be above 0.0"),
    "std is infinite": ("mini = 0.5", "std = inf", "data.std = Infinity: must be a finite number"),
    "std of fewer channels": (
        "mini = 0.5",
        "mean = [0.1, 0.2, 0.3]\nstd = [0.1]",
        "data.std: has 1 number, data.mean has 3 numbers",
    ),
    "model is text": ('[model]\nname = "lenet"', 'model = "lenet"', 'model = "lenet": must be a table'),
    "mean alone": ("mini = 0.5", "mean = 0.1", "data.std: must be given where the other is"),
    "std alone": ("mini = 0.5", "std = 0.1", "data.mean: must be given where the other is"),
    "asha never prunes": (
        'name = "asha"',
        'name = "asha"\nmin_epochs = 3',
        "pruner.min_epochs: 3 is not below search.epochs (3), so nothing would be pruned",
    ),
    "first rung after the only epoch": (
        'name = "asha"\n[search]\ntrials = 12\nepochs = 3',
        'name = "asha"\nmin_epochs = 2\n[search]\ntrials = 12\nepochs = 1',
        "pruner.min_epochs: 2 is not below search.epochs (1), so nothing would be pruned",
    ),
    "budget below one trial": (
        "[search]",
        "[stop]\nepochs = 2\n[search]",
        "stop.epochs: 2 is below search.epochs (3), so no trial could complete",
    ),
    "more promotions than trials": (
        "trials = 12",
        "trials = 1",
        "promotion.top: 2 is more than search.trials (1)",
    ),
    "too many trials": (
        "trials = 12",
        "trials = 1000001",
        "search.trials = 1000001: must be at most 1000000",
    ),
    # the space
    "space is a list": (
        "[space]",
        "[[space]]",
        'space = [{"lr": [0.001, 0.01], "batch_size": [16, 32], '
        '"momentum": {"low": 0, "high": 0.9}, "weight_decay": 0}]: must be a table',
    ),
    "parameter misspelt": (
        "weight_decay = 0",
        "weightdecay = 0",
        "space.weightdecay: unknown key; did you mean 'weight_decay'?",
    ),
    "condition on nothing": (
        "high = 0.9 }",
        "high = 0.9, when = { optimiser = 'sgd' } }",
        "space.momentum: when: the space has no parameter 'optimiser'; known: lr, batch_size, weight_decay",
    ),
    "condition that never holds": (
        "high = 0.9 }",
        "high = 0.9, when = { batch_size = [8, 16] } }",
        "space.momentum: when: batch_size is never 8; known: 16, 32",
    ),
    "constraint misspelt": (
        "weight_decay = 0",
        "weight_decay = 0\nconstraints = ['lr * batchsize < 1']",
        "space.constraints: 'lr * batchsize < 1': unknown parameter 'batchsize'; did you mean 'batch_size'?",
    ),
    "constraint that no point meets": (
        "weight_decay = 0",
        "weight_decay = 0\nconstraints = ['lr > 1']",
        "space.constraints: none of 10000 random points meets 'lr > 1'",
    ),
    "constraints alone": (
        "lr = [1e-3, 1e-2]\nbatch_size = [16, 32]\nmomentum = { low = 0, high = 0.9 }\nweight_decay = 0",
        "constraints = ['lr > 1']",
        'space = {"constraints": ["lr > 1"]}: must have at least one parameter',
    ),
    "no choice": ("lr = [1e-3, 1e-2]", "lr = []", "space.lr: needs at least one choice"),
    "choice twice": ("lr = [1e-3, 1e-2]", "lr = [0.1, 1e-1]", "space.lr: names 0.1 twice"),
    "rate is zero": ("lr = [1e-3, 1e-2]", "lr = [0, 1e-2]", "space.lr: 0 is not a number above 0"),
    "batch size is a float": (
        "[16, 32]",
        "[16, 32.0]",
        "space.batch_size: 32.0 is not a whole number of at least 2",
    ),
    "batch size is one": ("[16, 32]", "1", "space.batch_size: 1 is not a whole number of at least 2"),
    "momentum is one": ("high = 0.9", "high = 1.0", "space.momentum: 1.0 is not a number from 0 to below 1"),
    "range without high": ("high = 0.9", "log = false", "space.momentum: a range needs low and high"),
    "range misspelt": (
        "high = 0.9",
        "high = 0.9, steps = 0.1",
        "space.momentum: unknown key 'steps'; a range has low, high, log, step, when",
    ),
    "range reversed": (
        "low = 0, high = 0.9",
        "low = 0.9, high = 0.1",
        "space.momentum: low (0.9) must be below high (0.1)",
    ),
    "logarithm of zero": (
        "high = 0.9",
        "high = 0.9, log = true",
        "space.momentum: log needs a low above 0 and no step",
    ),
    "step that misses high": (
        "high = 0.9",
        "high = 0.9, step = 0.2",
        "space.momentum: step (0.2) must lead from low (0.0) to high (0.9) exactly",
    ),
    # sampler and pruner
    "sampler unknown": (
        '"tpe"',
        '"GridSampler"',
        """sampler.name = "GridSampler": must be one of 'random', 'tpe', 'gp', 'CmaEsSampler', """
        "'QMCSampler', 'GPSampler', 'NSGAIISampler' or 'BruteForceSampler'",
    ),
    "option of Optuna that is a Python object": (
        '"tpe"',
        '"NSGAIISampler"\ncrossover = "sbx"',
        "sampler.crossover: unknown key of the sampler 'NSGAIISampler': takes a Python object; the crossover "
        "is uniform",
    ),
    "option of Optuna with another name": (
        '"tpe"',
        '"CmaEsSampler"\nn_startup_trials = 3',
        "sampler.n_startup_trials: unknown key of the sampler 'CmaEsSampler': the key is 'startup'",
    ),
    "option of another sampler of Optuna": (
        '"tpe"',
        '"QMCSampler"\npopsize = 9',
        "sampler.popsize: unknown key of the sampler 'QMCSampler'; it is a key of 'CmaEsSampler'",
    ),
    "sequence unknown": (
        '"tpe"',
        '"QMCSampler"\nqmc_type = "lattice"',
        """sampler.qmc_type = "lattice": must be one of 'sobol' or 'halton'""",
    ),
    "population too small": (
        '"tpe"',
        '"CmaEsSampler"\npopsize = 3',
        "sampler.popsize = 3: must be at least 4",
    ),
    "separable and adaptive": (
        '"tpe"',
        '"CmaEsSampler"\nlr_adapt = true\nuse_separable_cma = true',
        "sampler.lr_adapt: cannot be combined with use_separable_cma",
    ),
    "option that is no boolean": (
        '"tpe"',
        '"QMCSampler"\nscramble = 1',
        "sampler.scramble = 1: must be true or false",
    ),
    "brute force of a range": (
        '"tpe"',
        '"BruteForceSampler"',
        "sampler.name: takes a finite space; give 'momentum' a step or a list of values",
    ),
    "probability above 1": (
        '"tpe"',
        '"NSGAIISampler"\nmutation_prob = 2',
        "sampler.mutation_prob = 2: must be at most 1.0",
    ),
    "no startup": ('"tpe"', '"tpe"\nstartup = 0', "sampler.startup = 0: must be at least 1"),
    "pause never pauses": (
        'name = "asha"',
        'name = "pause"\nmin_epochs = 3',
        "pruner.min_epochs: 3 is not below search.epochs (3), so nothing would be pruned",
    ),
    "pruner unknown": (
        '"asha"',
        '"sha"',
        """pruner.name = "sha": must be one of 'none', 'median', 'asha', 'hyperband' or 'pause'""",
    ),
    "key of another pruner": (
        'name = "asha"',
        'name = "pause"\nstartup_trials = 3',
        "pruner.startup_trials: unknown key of the pruner 'pause'; it is a key of 'median'",
    ),
    "key of several other pruners": (
        'name = "asha"',
        'name = "none"\nmin_epochs = 3',
        "pruner.min_epochs: unknown key of the pruner 'none'; it is a key of 'asha', 'hyperband' and 'pause'",
    ),
    "key of another pruner than the default": (
        'name = "asha"',
        "warmup_epochs = 3",
        "pruner.warmup_epochs: unknown key of the pruner 'pause'; it is a key of 'median'",
    ),
    "key of no pruner": (
        'name = "asha"',
        'name = "asha"\nmin_epoch = 3',
        "pruner.min_epoch: unknown key; did you mean 'min_epochs'?",
    ),
    "pruner is a list": ("[pruner]", "[[pruner]]", 'pruner = [{"name": "asha"}]: must be a table'),
    "pruner without a name": (
        'name = "asha"',
        "name = 3",
        "pruner.name = 3: must be one of 'none', 'median', 'asha', 'hyperband' or 'pause'",
    ),
    "key of no sampler": (
        '"tpe"',
        '"tpe"\nstart = 3',
        "sampler.start: unknown key; did you mean 'startup'?",
    ),
    "reduction to all": ('"asha"', '"asha"\nreduction = 1', "pruner.reduction = 1: must be at least 2"),
    "negative warm-up": (
        '"asha"',
        '"median"\nwarmup_epochs = -1',
        "pruner.warmup_epochs = -1: must be at least 0",
    ),
    # stopping
    "target is infinite": (
        "[full]",
        "[stop]\ntarget = inf\n[full]",
        "stop.target = Infinity: must be a finite number",
    ),
    "target is text": ("[full]", '[stop]\ntarget = "low"\n[full]', 'stop.target = "low": must be a number'),
    "no patience in the search": (
        "[full]",
        "[stop]\npatience = 0\n[full]",
        "stop.patience = 0: must be at least 1",
    ),
    "half a trial": (
        "[full]",
        "[stop]\npatience = 2.5\n[full]",
        "stop.patience = 2.5: must be a whole number",
    ),
    "no epochs to stop at": ("[full]", "[stop]\nepochs = 0\n[full]", "stop.epochs = 0: must be at least 1"),
    "no hours": ("[full]", "[stop]\ndevice_hours = 0\n[full]", "stop.device_hours = 0: must be above 0.0"),
    "hours misspelt": (
        "[full]",
        "[stop]\ndevice_hour = 1\n[full]",
        "stop.device_hour: unknown key; did you mean 'device_hours'?",
    ),
    # budgets
    "no trials": ("trials = 12", "trials = 0", "search.trials = 0: must be at least 1"),
    "trials are a float": ("trials = 12", "trials = 12.5", "search.trials = 12.5: must be a whole number"),
    "trials misspelt": ("trials = 12", "trails = 12", "search.trails: unknown key; did you mean 'trials'?"),
    "epochs missing": ("epochs = 3\n", "", "search.epochs: is missing"),
    "phase missing": ("pretrain = { epochs = 2 }\n", "", "full.pretrain: is missing"),
    "second phase is a number": ("{ epochs = 1 }", "1", "full.finetune = 1: must be a table"),
    "no epochs of fine-tuning": (
        "{ epochs = 1 }",
        "{ epochs = 0 }",
        "full.finetune.epochs = 0: must be at least 1",
    ),
    "recipe of nobody": (
        "pretrain = { epochs = 2 }\n",
        'recipe = "best"\n',
        "full.recipe = \"best\": must be one of 'paper' or 'modern'",
    ),
    "recipe misspelt": (
        "[full]",
        '[full]\nrecipie = "modern"',
        "full.recipie: unknown key; did you mean 'recipe'?",
    ),
    "schedule of nobody": (
        "[full]",
        '[full]\nschedule = "linear"',
        "full.schedule = \"linear\": must be one of 'constant', 'step', 'cosine' or 'one-cycle'",
    ),
    "warmup of a schedule that rises": (
        "[full]",
        '[full]\nschedule = "one-cycle"\nwarmup = 0.1',
        "full.warmup: applies only where full.schedule is constant, step or cosine",
    ),
    "all is warmup": ("[full]", "[full]\nwarmup = 1", "full.warmup = 1: must be below 1.0"),
    "smoothing above 1": (
        "[full]",
        "[full]\nlabel_smoothing = 2",
        "full.label_smoothing = 2: must be at most 1.0",
    ),
    "all is dropped": ("[full]", "[full]\ndropout = 1", "full.dropout = 1: must be below 1.0"),
    "nesterov is text": ("[full]", '[full]\nnesterov = "no"', 'full.nesterov = "no": must be true or false'),
    "average of everything": ("[full]", "[full]\nema = 1.0", "full.ema = 1.0: must be below 1.0"),
    "average is true": (
        "[full]",
        "[full]\nema = true",
        "full.ema = true: must be a value, or false to leave it out",
    ),
    "phase is a number": ("{ epochs = 2 }", "2", "full.pretrain = 2: must be a table"),
    "rate of pretraining": (
        "{ epochs = 2 }",
        "{ epochs = 2, lr = 1 }",
        "full.pretrain.lr: unknown key; known: epochs, patience",
    ),
    "no patience": (
        "{ epochs = 2 }",
        "{ epochs = 2, patience = 0 }",
        "full.pretrain.patience = 0: must be at least 1",
    ),
    "rate of fine-tuning": (
        "{ epochs = 1 }",
        "{ epochs = 1, lr = 0 }",
        "full.finetune.lr = 0: must be above 0.0",
    ),
    "no clip": ("[full]", "[full]\nclip = 0", "full.clip = 0: must be above 0.0"),
    "clip is true": (
        "[full]",
        "[full]\nclip = true",
        "full.clip = true: must be a value, or false to leave it out",
    ),
    "rotation": ("rotation = 10", "rotation = 181", "full.augment.rotation = 181: must be at most 180.0"),
    "augment misspelt": (
        "rotation = 10",
        "rotate = 10",
        "full.augment.rotate: unknown key; did you mean 'rotation'?",
    ),
    "shift": ("rotation = 10", "shift = 1.0", "full.augment.shift = 1.0: must be below 1.0"),
    "scale reversed": (
        "rotation = 10",
        "scale = [1.1, 0.9]",
        "full.augment.scale = [1.1, 0.9]: must be [smallest, largest] with 0 < smallest <= largest",
    ),
    "scale of zero": (
        "rotation = 10",
        "scale = [0, 1]",
        "full.augment.scale = [0, 1]: must be [smallest, largest] with 0 < smallest <= largest",
    ),
    "scale of one": ("rotation = 10", "scale = 1.1", "full.augment.scale = 1.1: must be a list"),
    "scale of three": (
        "rotation = 10",
        "scale = [1, 1, 1]",
        "full.augment.scale = [1, 1, 1]: must be a list of two numbers",
    ),
    "scale is text": (
        "rotation = 10",
        'scale = ["small", 1]',
        'full.augment.scale.0 = "small": must be a number',
    ),
    "promotion of none": ("top = 2", "top = 0", "promotion.top = 0: must be at least 1"),
    "promotion is text": ("top = 2", 'seeds = "all"', 'promotion.seeds = "all": must be a whole number'),
}


def lines(file: Path, text: str | bytes) -> list[str]:
    """Return the lines of the error that `load` raises for a study file with this text."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError) as caught:
        StudySpec.load(file)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(("right", "wrong", "line"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_reported_in_one_line(tmp_path: Path, right: str, wrong: str, line: str) -> None:
    assert TEXT.count(right) == 1
    file = tmp_path / "bad.toml"
    assert lines(file, TEXT.replace(right, wrong)) == [f"{file}: {line}"]


def test_every_mistake_of_a_file_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    text = """
    [model]
    name = "lenet"
    size = 3
    [data]
    mini = 2
    [space]
    lr = { low = 1, high = 0.1 }
    batch_size = 0
    moment = 0.9
    [serch]
    trials = 3
    [full]
    pretrain = { epochs = 0 }
    clip = -1
    """
    assert lines(file, text) == [
        f"{file}: {line}"
        for line in [
            "model.size: unknown key; known: name, loss, metrics",
            "data.name: is missing",
            "data.mini = 2: must be at most 0.5",
            "space.moment: unknown key; did you mean 'momentum'?",
            "space.lr: low (1.0) must be below high (0.1)",
            "space.batch_size: 0 is not a whole number of at least 2",
            "full.pretrain.epochs = 0: must be at least 1",
            "full.clip = -1: must be above 0.0",
            "serch: unknown key; did you mean 'search'?",
        ]
    ]


def test_empty_file_misses_its_sections(tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    sections = ["model", "data", "space", "search", "full"]
    assert lines(file, "") == [f"{file}: {section}: is missing" for section in sections]


def test_file_name_must_be_a_valid_study_name(tmp_path: Path) -> None:
    file = tmp_path / "My Study.toml"
    way_out = 'this is the name of the file: rename it, or begin it with name = "..."'
    assert lines(file, TEXT) == [f'{file}: name = "My Study": {NAME_RULE}; {way_out}']


def test_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    assert lines(file, "seed = = 1") == [f"{file}: not valid TOML: Invalid value (at line 1, column 8)"]


def test_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    assert lines(file, b"# caf\xe9") == [f"{file}: not a text file in UTF-8 (byte 5)"]


def test_missing_file_is_refused(tmp_path: Path) -> None:
    for file, reason in [
        (tmp_path / "none.toml", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ]:
        with pytest.raises(SpecError) as caught:
            StudySpec.load(file)
        assert str(caught.value) == f"{file}: cannot read the study file: {reason}"
