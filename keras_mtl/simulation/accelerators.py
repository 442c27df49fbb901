"""The hardware that a plan of costs knows, with the sources of its figures."""

import dataclasses

from keras_mtl.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Chip:
    """A kind of chip, and the host that drives it.

    Attributes:
        label: name for the user.
        bfloat16: peak of matrix products in FLOP/s, with operands in bfloat16 or float16.
        float32: the same with operands in float32, as TensorFlow computes them by default: in
            bfloat16 on TPUs, in TensorFloat-32 on GPUs.
        bandwidth: memory bandwidth in bytes/s.
        memory: memory in bytes.
        interconnect: bytes/s in which a chip sends and receives, both together; 0 if the chips of a
            slice share memory.
        source: where the figures come from.
    """

    label: str
    bfloat16: float
    float32: float
    bandwidth: float
    memory: float
    interconnect: float
    source: str


@dataclasses.dataclass(frozen=True)
class Hardware:
    """A slice of TPUs, GPUs or CPU cores.

    Attributes:
        name: the name that the user gave, such as `v5e:16x16`.
        chip: the kind of chip. Of a CPU, it is one core; its memory is not known and 0.
        chips: number of chips.
        hosts: number of hosts.
        host_cores: processor cores of a host; half of its virtual CPUs, which are threads.
    """

    name: str
    chip: Chip
    chips: int
    hosts: int
    host_cores: int

    def peak(self, dtype: str) -> float:
        """Returns the peak of all chips in FLOP/s.

        Args:
            dtype: dtype policy of a run, such as `mixed_bfloat16`.
        """
        return self.chips * (self.chip.float32 if dtype == "float32" else self.chip.bfloat16)

    @property
    def is_cpu(self) -> bool:
        return self.chip.memory == 0


_GOOGLE = "cloud.google.com/tpu/docs"
_NVIDIA = "NVIDIA's data sheet, without sparsity"
CHIPS = {
    "v5e": Chip("TPU v5e", 197e12, 197e12, 819e9, 16e9, 400e9, f"{_GOOGLE}/v5e"),
    "v6e": Chip("TPU v6e", 918e12, 918e12, 1640e9, 32e9, 800e9, f"{_GOOGLE}/v6e"),
    "a100": Chip("NVIDIA A100 80 GB SXM", 312e12, 156e12, 2039e9, 80e9, 600e9, _NVIDIA),
    "h100": Chip("NVIDIA H100 SXM", 989e12, 494e12, 3350e9, 80e9, 900e9, _NVIDIA),
    "h200": Chip("NVIDIA H200 SXM", 989e12, 494e12, 4800e9, 141e9, 900e9, _NVIDIA),
    # TensorFlow's matrix products on two cores, 165 to 200 GFLOP/s in bfloat16 and 90 to 107 in
    # float32 each; the bandwidth is that of NumPy copying 1 GB on one core.
    "cpu": Chip(
        "core of an AMD Zen 4", 165e9, 95e9, 8e9, 0, 0, "matrix products measured on two cores"
    ),
}
# Virtual CPUs of the VM of a TPU slice, by the chips of the VM (cloud.google.com/tpu/docs). A slice
# of more than 8 chips consists of VMs with 4.
_TPU_CPUS = {"v5e": {1: 24, 4: 112, 8: 224}, "v6e": {1: 44, 4: 180, 8: 180}}
_TOPOLOGIES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
# Virtual CPUs of a Google Cloud VM with 8 GPUs: a2-ultragpu-8g, a3-highgpu-8g, a3-ultragpu-8g.
_GPU_CPUS = {"a100": 96, "h100": 208, "h200": 224}
_HOST_GPUS = 8
_EXAMPLES = "Give a TPU slice such as v5e:16x16, GPUs such as h100:8, or CPU cores such as cpu:8"


def parse_hardware(text: str) -> Hardware:
    """Reads the name of hardware.

    Args:
        text: `v5e:TOPOLOGY` or `v6e:TOPOLOGY`, such as `v5e:16x16`; `a100:N`, `h100:N` or `h200:N`
            for N GPUs; `cpu:N` for N cores of one machine.

    Raises:
        ConfigError: the kind of chip, the topology or the number is unknown.
    """
    kind, _, size = text.partition(":")
    if kind not in CHIPS:
        raise ConfigError(f"--hardware {text}: unknown chip {kind!r}{nearest(kind, CHIPS)}")
    chip = CHIPS[kind]
    if kind in _TPU_CPUS:
        if size not in _TOPOLOGIES:
            raise ConfigError(
                f"--hardware {text}: {size!r} is not a topology of {chip.label}. Give one of "
                f"{', '.join(_TOPOLOGIES)}"
            )
        rows, columns = map(int, size.split("x"))
        chips = rows * columns
        of_host = chips if chips <= 8 else 4
        return Hardware(text, chip, chips, chips // of_host, _TPU_CPUS[kind][of_host] // 2)
    if not (size.isascii() and size.isdigit() and int(size) > 0):
        raise ConfigError(f"--hardware {text}: {size!r} is not a number of at least 1. {_EXAMPLES}")
    count = int(size)
    if kind == "cpu":
        return Hardware(text, chip, count, 1, count)
    hosts = -(-count // _HOST_GPUS)
    if count > _HOST_GPUS and count % _HOST_GPUS:
        raise ConfigError(
            f"--hardware {text}: a host has {_HOST_GPUS} GPUs. Give at most {_HOST_GPUS} or a "
            f"multiple of {_HOST_GPUS}"
        )
    cores = _GPU_CPUS[kind] // 2 * (count // hosts) // _HOST_GPUS
    return Hardware(text, chip, count, hosts, cores)
