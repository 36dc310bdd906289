"""Little shared libraries in the place of a vendor's, compiled by the tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

#: A driver with one GPU, "Orin", of compute capability 8.7; FAIL makes cuInit answer 100 (no device).
CUDA = """
#include <string.h>
int cuInit(unsigned flags) {
#ifdef FAIL
  return 100;
#endif
  return flags;
}
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + 7; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
  if (device != 7) return 101;
  strncpy(name, "Orin", size);
  return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1;
  return device != 7;
}
"""
#: A delegate that never finds its device.
EDGETPU = """
void *tflite_plugin_create_delegate(char **keys, char **values, int count, void (*report)(const char *)) {
  report("No Edge TPU device\\nis plugged in");
  return 0;
}
void tflite_plugin_destroy_delegate(void *delegate) {}
"""


def compile_library(path: Path, source: str, *flags: str) -> Path:
    """Compile C into a shared library; the test is skipped where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler (cc)")
    text = path.with_suffix(".c")
    text.write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", *flags, "-o", str(path), str(text)], check=True)
    return path
