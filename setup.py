"""Map the three top folders to the packages clipshards.packer, .readers and .tools."""

from setuptools import find_packages, setup

TOP = ("packer", "readers", "tools")
setup(
    packages=[f"clipshards.{p}" for p in find_packages(include=[f"{t}*" for t in TOP])],
    package_dir={f"clipshards.{t}": t for t in TOP},
)
