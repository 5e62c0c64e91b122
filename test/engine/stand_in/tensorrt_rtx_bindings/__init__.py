"""TensorRT for RTX as far as the package uses it: the stand-in for TensorRT with other flags.

It compiles for named compute capabilities, and what it "compiles on the card" is one line of text.
"""

import enum

import tensorrt as plain

globals().update({name: value for name, value in vars(plain).items() if not name.startswith("_")})
__version__ = "1.7.1.116"


class ComputeCapability(enum.Enum):
    SM75 = 75
    SM86 = 86
    SM89 = 89
    SM120 = 120
    CURRENT = -1


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY = 0
    EAGER = 1


class _RuntimeCache:
    content = b""

    def deserialize(self, content):
        self.content = content
        return True

    def serialize(self):
        return self.content or b"kernels"


class _RuntimeConfig:
    def create_runtime_cache(self):
        return _RuntimeCache()

    def set_execution_context_allocation_strategy(self, strategy):
        self.strategy = strategy

    def set_runtime_cache(self, cache):
        self.cache = cache


class _Engine(plain._Engine):  # type: ignore[name-defined]
    def create_runtime_config(self):
        return _RuntimeConfig()

    def create_execution_context(self, config):
        strategy = config.dynamic_shapes_kernel_specialization_strategy
        assert strategy is DynamicShapesKernelSpecializationStrategy.EAGER
        return super().create_execution_context(config.strategy)


class Runtime(plain.Runtime):
    engine = _Engine


class _Config(plain._Config):  # type: ignore[name-defined]
    def __init__(self):
        super().__init__()
        self.num_compute_capabilities, self.capabilities = 0, {}

    def set_compute_capability(self, capability, index):
        assert index < self.num_compute_capabilities
        self.capabilities[index] = capability.name


class Builder(plain.Builder):
    def create_builder_config(self):
        return _Config()

    def build_serialized_network(self, network, config):
        assert len(config.capabilities) == config.num_compute_capabilities > 0
        return super().build_serialized_network(network, config)
