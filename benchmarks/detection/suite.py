"""All cases."""

from benchmarks.detection import (
    faults_data,
    faults_gradients,
    faults_numbers,
    faults_rates,
    faults_structure,
    faults_wiring,
    healthy,
    healthy_by_design,
    healthy_in_practice,
    healthy_lookalikes,
)
from benchmarks.detection.case import Case

_FILES = (
    faults_gradients,
    faults_rates,
    faults_wiring,
    faults_data,
    faults_numbers,
    faults_structure,
    healthy,
    healthy_by_design,
    healthy_in_practice,
    healthy_lookalikes,
)
CASES: dict[str, Case] = {case.name: case for file in _FILES for case in file.CASES.all}
