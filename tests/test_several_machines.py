"""Three hosts that share only the run's folder: network namespaces of this machine, joined by a bridge (gloo)."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import CLASSES
from forked import Forked

HOSTS = (1, 2, 3)
# The outer namespaces (user, network, mounts) are this test's own: with its last process, everything in them is gone.
NETWORK = """set -e
mount -t tmpfs tmpfs /run
ip link set lo up
ip link add bridge type bridge
ip link set bridge up
for host in 1 2 3; do
    ip netns add $host
    ip link add port$host type veth peer name eth0 netns $host
    ip link set port$host master bridge up
    ip -n $host address add 10.0.0.$host/24 dev eth0
    ip -n $host link set eth0 up
    ip -n $host link set lo up
done
"""
# What a host does, with its number: it finds its own copy of the pictures at the place that the command names.
HOST = """
exec 2> {own}/$1/said
mount --bind {own}/$1/pictures {pictures}
mount --bind {own}/$1/cache {cache}
export GLOO_SOCKET_IFNAME=eth0
exec {python} -m torch.distributed.run --nnodes {hosts} --nproc-per-node 1 --rdzv-backend c10d --rdzv-id x \\
    --rdzv-endpoint 10.0.0.1:29500 --rdzv-conf is_host=$(($1 == 1)) --local-addr 10.0.0.$1 --module gfnet_pl "${{@:2}}"
"""
START = """
for host in $(seq {hosts}); do
    ip netns exec $host bash host.sh $host "$@" &
    started="$started $!"
done
status=0
for host in $started; do wait $host || status=1; done
exit $status
"""


def in_namespaces(script, arguments=()):
    inside = ["unshare", "--map-root-user", "--net", "--mount", "bash", "-c", script, "bash", *arguments]
    return subprocess.run(inside, capture_output=True, text=True, check=False, timeout=200)


@pytest.fixture(scope="module", autouse=True)
def namespaces():
    if missing := [name for name in ("unshare", "ip") if not shutil.which(name)]:
        pytest.skip(f"no {' and no '.join(missing)} here")
    if (tried := in_namespaces(NETWORK)).returncode:
        pytest.skip(f"no namespaces here: {tried.stderr.strip()}")


@pytest.fixture
def hosts(tiny, pictures, tmp_path):
    """A function that trains on three hosts or fewer by `torchrun`, and returns its status and what each host said."""
    own, cache = tmp_path / "hosts", tmp_path / "cache"
    cache.mkdir()
    for host in HOSTS:
        shutil.copytree(pictures, own / str(host) / "pictures")
        (own / str(host) / "cache").mkdir()

    def train(*options, hosts=3):
        places = {"own": own, "pictures": pictures, "cache": cache, "python": sys.executable}
        Path("host.sh").write_text(HOST.format(**places, hosts=hosts))
        several = [f"--trainer.num_nodes={hosts}", "--trainer.devices=1", "--trainer.strategy=ddp"]
        done = in_namespaces(NETWORK + START.format(hosts=hosts), [*tiny, *options, *several])
        assert not any(cache.iterdir())  # each wrote into its own
        return done.returncode, [(own / str(host) / "said").read_text() for host in range(1, hosts + 1)]

    train.folder = own
    return train


def test_three_hosts_train_as_one_process_with_their_batches_together(hosts, tiny):
    same = ["--trainer.precision=32-true", "--data.augment.rotation=20", "--model.dropout=0", "--model.drop_path=0"]
    status, said = hosts(*same, "--data.batch_size=4")
    assert status == 0, said
    assert all(len(list((hosts.folder / str(host) / "cache").rglob("*.images"))) == 1 for host in HOSTS)
    one = Forked([*tiny, *same, "--data.batch_size=12", "--stage=one"])
    assert one.wait() == 0, one.stderr
    several, alone = (Path(f"runs/{stage}/version_0") for stage in ("base", "one"))
    for name in ("splits.csv", "val_confusion.csv"):  # the validation is counted once
        assert (several / name).read_text() == (alone / name).read_text(), name
    weights, expected = (
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (several, alone)
    )
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_host_that_sees_other_pixels_is_named_before_the_first_step(hosts):
    folder = hosts.folder / "2/pictures/Train"
    shutil.copy(folder / CLASSES[1] / "00.png", folder / CLASSES[0] / "00.png")
    status, said = hosts(hosts=2)
    assert status != 0
    assert any("process 1 on" in each and "sees other pixels than process 0" in each for each in said), said
    assert not Path("runs").exists()
