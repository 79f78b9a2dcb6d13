"""The workload of trials that run elsewhere, loaded and tried on this machine to find what is wrong with it.

Tested in tests/execution/test_offering_backend.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tunectl.core.errors import UsageError, WorkloadError
from tunectl.core.own_code_request import Request
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import Scalar, WorkloadReference
from tunectl.execution.backends.backend import BackendReady
from tunectl.execution.backends.local import LocalBackend
from tunectl.language.study_spec import ResourcesSection
from tunectl.store.provenance import file_sha256
from tunectl.store.run_state import WorkerNeeds

_NO_GPU = re.compile(
    r"no (?:NVIDIA|CUDA)|NVIDIA driver|CUDA (?:driver|error|is not available|unknown error)|not compiled with CUDA"
    r"|cuda\.is_available\(\) is False|No HIP GPUs|requires (?:a )?(?:GPU|CUDA)",
    re.IGNORECASE,
)
"""What torch says where a program wants a GPU and there is none (torch 2.x: torch/cuda/__init__.py, _lazy_init)."""


class LocalCheck:
    """Loads and tries a workload by the local backend, which it starts again where it was closed.

    `needs` is what workers load; None until `load` was called.
    """

    def __init__(self, local: LocalBackend) -> None:
        self.needs: WorkerNeeds | None = None
        self._local = local
        self._own_code = self._is_open = False

    def start(self, *, own_code: bool = False) -> None:
        """Start the fork server; see Backend."""
        self._own_code = self._own_code or own_code
        self._local.start(own_code=own_code)
        self._is_open = True

    def load(
        self, workload: WorkloadReference, arguments: Mapping[str, Scalar], code: Sequence[WorkloadReference] = ()
    ) -> None:
        """Let the fork server load the workload, where it was started."""
        own_code = self._own_code or workload.workload_kind != "workload"
        self.needs = WorkerNeeds(workload, dict(arguments), tuple(code), own_code, str(Path.cwd()))
        if self._is_open:
            self._local.load(workload, arguments, code)

    def wait_ready(self, resources: ResourcesSection, stop_requested: Callable[[], int]) -> BackendReady | None:
        """Wait until the workload is loaded; where only a GPU is missing for that, a message says so."""
        self._open()
        try:
            ready = self._local.wait_ready(stop_requested)
        except WorkloadError as error:
            if not self._lacks_gpu(resources, error):
                raise
            return BackendReady(0.0, messages=(f"note: not loaded on this machine, which has no GPU: {error}",))
        if ready is not None and self.needs is not None:
            # Workers load them later: they may have been changed by then, or be others on their hosts.
            known = {file: sha256 for file in ready.files if (sha256 := file_sha256(Path(file)))}
            self.needs = replace(self.needs, files=known)
        return ready

    def probe(
        self, request: Request, resources: ResourcesSection, stop_requested: Callable[[], int]
    ) -> ProbedTrial | None:
        """Try the workload on a device of this machine; where only a GPU is missing for that, a note says so."""
        self._open()
        try:
            slot = self._local.slots(resources)[0]
        except UsageError:  # the devices of the workers' hosts
            slot = self._local.slots(replace(resources, devices="cpu"))[0]
        try:
            return self._local.probe(request, slot, stop_requested)
        except WorkloadError as error:
            if slot.device.device_type != "cpu" or not self._lacks_gpu(resources, error):
                raise
            return ProbedTrial(0, (f"not tried on this machine, which has no GPU: {error}",))

    def close(self) -> None:
        """End the fork server. A second call does nothing."""
        if self._is_open:
            self._local.close()
            self._is_open = False

    def _open(self) -> None:
        if not self._is_open:
            self.start(own_code=self._own_code)
            if self.needs is not None:
                self._local.load(self.needs.workload, self.needs.arguments, self.needs.code)

    def _lacks_gpu(self, resources: ResourcesSection, error: WorkloadError) -> bool:
        if not _NO_GPU.search(str(error)):
            return False
        try:
            return self._local.slots(replace(resources, devices="auto"))[0].device.device_type == "cpu"
        except UsageError:
            return True
