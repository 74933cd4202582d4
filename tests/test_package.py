"""The installed wheel finds its configs, without the checkout, and brings pages of report and export, and weights."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_brings_the_configs_and_finds_them(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    for name in ("page.html", "page.js", "style.css"):
        assert (tmp_path / "site" / "gfnet_pl" / "report" / "page" / name).is_file()
    for name in ("page.html", "onnxruntime-web.tar.xz", "LICENSE-onnxruntime.txt"):
        assert (tmp_path / "site" / "gfnet_pl" / "export" / "page" / name).is_file()
    for name in ("patch4.pt", "patch8.pt"):
        assert (tmp_path / "site" / "gfnet_pl" / "model" / "small" / name).stat().st_size < 1e6
    code = "from gfnet_pl.cli import find_config; print(find_config('quick.yaml'))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": "site"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(found.stdout.strip()) == tmp_path / "site" / "gfnet_pl" / "configs" / "quick.yaml"
    quick = (tmp_path / "site" / "gfnet_pl" / "configs" / "quick.yaml").read_bytes()
    assert quick == (ROOT / "configs" / "quick.yaml").read_bytes()
