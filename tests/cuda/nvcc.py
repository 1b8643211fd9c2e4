"""Which nvcc compiles the kernels: printed; 1 if there is none."""

import importlib.metadata
import os
import shutil


def find() -> str | None:
    """$NVCC, nvcc on PATH, CUDA's own folder, the packages of the extra [nvcc]: the first that there is."""
    if named := os.environ.get("NVCC"):
        return named
    if found := shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin"):
        return found
    try:
        files = importlib.metadata.files("nvidia-cuda-nvcc") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == "nvcc"), None)


if __name__ == "__main__":
    nvcc = find()
    print(nvcc or "no nvcc")
    raise SystemExit(nvcc is None)
