"""Installation of fairseq_revdarts."""

from pathlib import Path

from setuptools import find_packages, setup

#: Without tensorboardX, fairseq asks for it each time that it starts.
EXAMPLES = ["num2words", "matplotlib>=3.6", "scipy>=1.8", "tensorboardX"]

setup(
    name="fairseq-revdarts",
    version="0.1.0",
    description="Memory-efficient differentiable Transformer architecture search for fairseq",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["fairseq_revdarts", "fairseq_revdarts.*"]),
    package_data={"fairseq_revdarts": ["genotypes/*"]},
    python_requires=">=3.8",
    install_requires=[
        "fairseq==0.12.2; python_version < '3.11'",
        "fairseq-fixed; python_version >= '3.11'",
        "torch>=2.4",
        "sacrebleu",
        "sentencepiece",
    ],
    extras_require={
        "tests": [
            *("pytest", "pytest-xdist", "hypothesis", "ruff", *EXAMPLES),
            "import-linter; python_version >= '3.11'",
        ],
        "plots": ["matplotlib>=3.6"],
        "examples": EXAMPLES,
    },
    entry_points={
        "console_scripts": [
            "revdarts-derive = fairseq_revdarts.cli.derive:main",
            "revdarts-plot = fairseq_revdarts.cli.plot:main",
            "revdarts-profile = fairseq_revdarts.cli.profile:main",
        ]
    },
)
