"""The words of `gfnet --help` and `gfnet COMMAND --help`: what people set. `--help-all` lists the rest.

No package is imported here, so that they appear at once. A test compares them with the parsers.
"""

import argparse
import re

HELP = """usage: gfnet COMMAND …

Train a Global Filter Network on a folder of pictures in class folders.

  gfnet fit DIR                             train on the pictures in DIR
  gfnet fit                                 train on the embedded hand signs
  gfnet fit --config base.yaml --data.root DIR
                                            train by the source study's recipe
  gfnet fit --config polish.yaml --ckpt_path last.ckpt
                                            fine-tune the newest run
  gfnet test                                score it on every test set
  gfnet validate                            score it on its validation set
  gfnet predict PATH…                       classify pictures, folders, globs
  gfnet enrol --pictures DIR                a person shows each sign once
  gfnet report                              one page: how good, and why it errs
  gfnet export                              ONNX files for other programs
  gfnet curve                               would more pictures help?
  gfnet sweep --space FILE                  find better settings
  gfnet runs                                list the runs in ./runs
  gfnet audit DIR                           what a folder holds, what splits leak
  gfnet hand-signs --out DIR                write synthetic data of any size
  tensorboard --logdir runs                 the dashboards

DIR: class folders with your pictures, a .zip of them, a .csv, .npz or MNIST's.
gfnet COMMAND --help: what a command can be told. gfnet --version: the version.
"""

_FIT = """usage: gfnet fit [DIR] [--config FILE]… [--OPTION VALUE]…

Trains a net; the run is kept in runs/STAGE/version_N. Without a config, gfnet
fit DIR chooses the settings for the pictures in DIR, and gfnet fit trains on
the embedded hand signs. A config is a file, or the package's base, quick,
robust or polish.yaml; later ones win over earlier ones, options over all.
In (): the default, where neither a config nor a choice says otherwise.

  --ckpt_path FILE             resume a run, or start from its weights where the
                               stage is another; last.ckpt: of the newest run
  --stage NAME                 the run's folder below runs (base)
  --seed_everything N          of weights, splits, order, augmentation (1)
pictures
  --data.root DIR              folders, .zip, .csv, .npz, IDX (embedded hands)
  --data.classes "[A, B]"      only these, or the names of numbers (all)
  --data.on_broken skip        leave broken pictures out (error)
  --data.group_by RULE         what belongs together: a pattern on the path like
                               "(signer[0-9]+)", blocks, or near-duplicates
  --data.split_by group        validate on other groups (image)
  --data.unseen_groups N       groups kept for the unseen set (0)
  --data.val_fraction X        share kept for validation (0.1)
  --data.folds K               K nets, each validated on its Kth of the pictures
  --data.holdout_per_class N   further pictures kept for a test (0)
  --data.batch_size N          pictures per step and device (512)
  --data.colour true           keep the colours (false: grey)
  --data.fit letterbox         keep the shapes; or crop (stretch)
  --data.augment.rotation X    degrees; also scale, shift, brightness … (0)
net
  --model.dim N                channels (256)
  --model.depth N              blocks (12)
  --model.image_size N         pixels: height and width (96)
  --model.lr X                 peak learning rate (0.001)
  --model.variant NAME         gfnet-ti … gfnet-h-b: the authors' shapes (none)
  --model.pretrained WHAT      small (comes with gfnet), or the authors' FILE
  --model.freeze N             keep the first N blocks as they are (0)
training
  --trainer.max_epochs N       (20)
  --trainer.precision X        32-true or bf16-mixed
  --trainer.accelerator X      cpu or gpu; on one device, or --trainer.devices N
All options: gfnet fit --help-all
"""

_CHECKPOINT = """  --ckpt_path FILE             default: best.ckpt, the best of the newest run;
                               last.ckpt: its last epoch
"""

_MACHINE = """  --data.batch_size N          pictures per step; default: as in training
  --trainer.accelerator X      cpu or gpu; on one device, or --trainer.devices N
"""

_TEST = f"""usage: gfnet test [--ckpt_path FILE] [--OPTION VALUE]…

Scores a checkpoint on every set of its run: val, test, holdout and unseen, as
far as there are such. Shows the figures with their 95 % intervals, and writes
predictions, figures and calibration into the run. Settings, splits and classes
are those of the run. Of other data, all is scored but what the net was trained
on; the results go to other_data/ in the run.

{_CHECKPOINT}  --data.root DIR              other data, or where the run's have moved
{_MACHINE}
All options: gfnet test --help-all
"""

_VALIDATE = f"""usage: gfnet validate [--ckpt_path FILE] [--OPTION VALUE]…

Scores a checkpoint on its run's validation set, and writes nothing.

{_CHECKPOINT}  --data.root DIR              where the run's pictures are now
{_MACHINE}
All options: gfnet validate --help-all
"""

_SWEEP = """usage: gfnet sweep [DIR] --space FILE [--config FILE]… [--OPTION VALUE]…

Tries settings: many trainings, each a run in runs/STAGE, proposed by Optuna;
hopeless ones end early. The same command, given again, goes on where a sweep
was stopped, and given in several terminals or on several machines with one
file system, shares it. All other options are those of gfnet fit.

  --space FILE                 YAML: what to try for each key
  --trials N                   in all (20)
  --minutes N                  begin no trial later than that
  --objective X                val: right validation pictures (val)
                               mean or worst: over groups that are not trained
                               on, the mean of their shares, or the lowest
  --stage NAME                 of the sweep and its runs (sweep)

A space, for example:
  model.lr: {low: 1.0e-3, high: 1.0e-2, log: true}
  model.depth: {low: 2, high: 6, step: 2}
  data.augment.flip: [0.0, 0.5]
"""

OF_COMMAND = {"fit": _FIT, "sweep": _SWEEP, "test": _TEST, "validate": _VALIDATE}

_OURS = {  # where Lightning's words are not true of this command
    "seed_everything": "Seed of weights, splits, order and augmentation; true draws one.",
    "ckpt_path": "A checkpoint; last.ckpt and best.ckpt mean those of the newest run.",
    "weights_only": "Not used: checkpoints are always read as weights and plain values.",
    "trainer.max_epochs": "Stop after this number of epochs. -1: no end by epochs.",
    "trainer.max_steps": "Stop after this number of optimizer steps. -1: no end by steps.",
    "trainer.logger": "false keeps no run. Otherwise TensorBoard logs to runs/<stage>/version_N.",
    "trainer.callbacks": "Callbacks in addition to those of this command.",
    "trainer.gradient_clip_val": "Clip gradients to this norm.",
    "trainer.enable_checkpointing": "Leave it: fit writes best.ckpt and last.ckpt.",
    "trainer.enable_progress_bar": "Show the lines of the epochs and the live bar.",
    "trainer.enable_model_summary": "Show Lightning's table of the net's parts.",
    "trainer.use_distributed_sampler": "Leave it: the data module divides the data by device.",
    "trainer.default_root_dir": "Where checkpoints go if there is no logger; runs are in ./runs.",
}
_OTHER_DEFAULT = re.compile(r"\s*(By default it will be set to|If not set, defaults to|Default:) ``.*?``\.?")


def tell_our_defaults(parser: argparse.ArgumentParser) -> None:
    """Takes from a parser's help what Lightning says about its own defaults, which are not always ours."""
    for action in parser._actions:
        if action.help:
            action.help = _OURS.get(action.dest) or _OTHER_DEFAULT.sub("", action.help)
