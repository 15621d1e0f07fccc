"""Where the three packages go in a wheel.

``training`` and ``app`` lie at the repository's root, as their users expect, but a wheel must not take such names in everybody's
site-packages: there they lie inside ``cr_interp/_house`` (see ``cr_interp/system/house.py``).
"""

from setuptools import find_packages, setup

BESIDE = ("training", "app")
own = find_packages(include=["cr_interp*"])
beside = [name for top in BESIDE for name in find_packages(include=[top, f"{top}.*"])]

setup(
    packages=[*own, *(f"cr_interp._house.{name}" for name in beside)],
    package_dir={f"cr_interp._house.{top}": top for top in BESIDE},
)
