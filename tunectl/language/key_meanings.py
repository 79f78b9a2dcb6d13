"""What each key of a study file means, in one sentence: what editors show beside it, by the schema."""

from __future__ import annotations

from collections.abc import Mapping

OF_STUDY: Mapping[str, str] = {
    "study": "The study's name, also that of its folder. Default: the name of the file.",
    "goal": "The question that the study answers.",
    "notes": "Free text, shown by `tunectl ls`.",
    "workload": "What is trained: module:factory or ./file.py:factory, or a mapping with `command` or `function`.",
    "objective": "The metric by which trials are judged, and its direction.",
    "training": "What is the same for every trial.",
    "hyperparameters": "The scientific, nuisance and fixed hyperparameters, by name.",
    "search": "How many trials, and how their points are sampled. Default: one trial, if nothing varies.",
    "resources": "Where and how to run; it changes no result of a trial that ends.",
    "uncommitted_diff": "Which uncommitted changes of the git repository are kept.",
}

OF_SECTIONS: Mapping[str, Mapping[str, str]] = {
    "objective": {
        "metric": "split/name, such as valid/error_rate.",
        "direction": "minimize or maximize; it is never guessed.",
        "checkpoint": "How a trial becomes one number: its best evaluation, or its final one.",
        "steps_to": "Judge trials by the number of steps to this value of the metric.",
    },
    "training": {
        "max_train_steps": "The number of updates of a trial; never a hyperparameter.",
        "eval_every": "Updates between evaluations; there is also one at step 0 and one after the last update.",
        "keep_checkpoints": "How many of the best evaluations keep their checkpoint.",
        "seed": "Each trial's own seed comes from this seed and the trial's id.",
        "train_examples": "On how many training examples train/… is measured. Default: as many as valid has.",
        "no_progress": "false: a trial whose network is dead at its end counts as completed.",
        "recovery": "A trial that becomes unstable goes back and continues with a smaller learning rate.",
        "curvature": "When the curvature is measured in each trial, and what.",
        "batch_norm_statistics": "Gather the statistics of batch normalisation again before each evaluation.",
        "predictions": "Of which examples the predictions are kept at each evaluation.",
        "split_examples": "By split, how many examples are evaluated on the way.",
    },
    "search": {
        "sampler": "halton, random, grid (every combination; without trials), or bayesian.",
        "trials": "The number of trials for each setting of the scientific hyperparameters.",
        "seed": "The seed of the sampler.",
        "points": "Configurations written by hand: a list of mappings, or a CSV file.",
        "after": "With sampler: bayesian, the folder of the study whose trials are its data.",
        "promote": "Longer trials at the best points: a list of stages.",
    },
    "resources": {
        "devices": "auto, cpu, or a list of GPU indices and UUIDs.",
        "trials_per_device": "Trials that share a GPU.",
        "threads_per_trial": "Threads of a trial's process.",
        "data_workers": "Data-loader processes of a trial.",
        "retries": "How often a trial that crashed, or whose server ended, is tried again.",
        "trial_timeout_seconds": "The longest time for one attempt. Default: no limit.",
        "grace_seconds": "How long a trial may save after it is asked to stop, before it is killed.",
        "devices_per_trial": "GPUs (without any: processes) of one trial of a command, under torchrun.",
        "backend": "Where trials run; local is this machine.",
        "prefetch_batches": "Batches that each data-loader process makes in advance.",
        "cache_examples": "true: examples that are the same each time are read once, into memory.",
    },
}

OF_HYPERPARAMETERS: Mapping[str, str] = {
    "role": "scientific (what the study asks about), nuisance (tuned, so that the comparison is fair) or fixed.",
    "value": "The one value of a fixed hyperparameter.",
    "values": "A set of values; if all are numbers, they are ordered.",
    "range": "[low, high], both included.",
    "scale": "How a range is sampled: linear, log or one_minus_log.",
    "type": "float or int.",
    "when": "It is active only under these values of other hyperparameters.",
    "sampled": "With scientific values: they are sampled within each setting.",
    "points": "With a range and sampler: grid, the number of values on the grid.",
    "off": "The value at which this hyperparameter does nothing.",
    "formula": "It is computed from other hyperparameters, such as effective_rate * (1 - momentum).",
}

OF_FIELDS: Mapping[str, str] = {
    "optimizer": "The update rule.",
    "learning_rate": "The base learning rate, reached after the warmup.",
    "batch_size": "Examples per update.",
    "eval_batch_size": "Examples per evaluation batch. Default: the larger of batch_size and 1024.",
    "momentum": "Of momentum, nesterov and the rmsprops.",
    "rho": "Of the rmsprops: the decay of the mean square (torch's alpha).",
    "beta1": "Of the adams and lamb: the decay of the first moment.",
    "beta2": "Of the adams and lamb: the decay of the second moment.",
    "epsilon": "Of the adams, lamb and the rmsprops: what is added to the denominator.",
    "weight_decay": "An L2 term in the gradient; decoupled in adamw and lamb.",
    "weight_decay_scope": "all parameters, or matrices only.",
    "schedule": "How the learning rate changes after the warmup.",
    "decay_steps": "The steps of the decay after the warmup; for step, those between two drops.",
    "decay_factor": "What step multiplies the rate by at each drop.",
    "end_learning_rate_factor": "Where linear and cosine end, as a fraction of the base rate.",
    "warmup_steps": "The steps of a linear warmup from 0.",
    "warmup": "prepend: the warmup is added to max_train_steps; within: it is part of them.",
    "post_warmup_steps": "Steps at the base rate between the warmup and the decay.",
    "grad_clip_norm": "The largest global norm of a gradient. Default: no clipping.",
    "accumulate_steps": "Divide the batch of an update into this many micro-batches.",
    "precision": "For what torch.autocast casts, in training and evaluation.",
    "polyak_decay": "The decay of an exponential average of the weights. Default: no averaging.",
    "activation_checkpointing": "blocks: the workload's blocks compute their activations again for the gradient.",
    "initialisation": "What rescales the weights before step 0.",
    "initialisation_steps": "The iterations of the initialisation.",
    "initialisation_learning_rate": "Its learning rate: of the norms (metainit), of the scales (gradinit).",
    "initialisation_momentum": "Its momentum (metainit), Adam's first decay (gradinit).",
}
