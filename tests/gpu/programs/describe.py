"""Print what the first GPU, its driver and torch call themselves."""

import ctypes
import json

import torch

nvml = ctypes.CDLL("libnvidia-ml.so.1")
driver = ctypes.create_string_buffer(80)
nvml.nvmlInit_v2()
nvml.nvmlSystemGetDriverVersion(driver, 80)
properties = torch.cuda.get_device_properties(0)
described = {
    "name": properties.name,
    "total_bytes": properties.total_memory,
    "driver": driver.value.decode(),
    "torch": torch.__version__,
    "cuda": torch.version.cuda,
}
print(json.dumps(described))
