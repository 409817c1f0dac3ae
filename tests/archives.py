"""Archives of a small corpus, for the scripts that prepare public corpora."""

import gzip
import io
import tarfile


def archive(path, members):
    """A tar file at `path`, compressed if it is a .tgz; `members` are texts by name."""
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name, text in members.items():
            content = text.encode()
            content = gzip.compress(content) if name.endswith(".gz") else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def segments(text):
    """The lines of `text` as SGML or XML has them."""
    return "".join(f'<seg id="{n}"> {line} </seg>\n' for n, line in enumerate(text.splitlines(), 1))
