"""Run WGSL without a browser, as kernels that TVM calls on numpy memory.

The host code of a module is compiled for this machine instead of WebAssembly, and its tensors are in ordinary memory.
To launch a kernel, it calls a function of that name, which copies the tensors to an adapter of PyPI `wgpu`, runs the
WGSL, and copies the results back. This is slow, but exact.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from dataclasses import dataclass, replace

import tvm
import tvm_ffi

from argosy.compiler.targets.record import TargetRecord

LARGEST = 64 << 20  # bytes of a tensor; larger ones are the cache's index arrays, of which only `USED` bytes are copied
USED = 1 << 20
LIBC = ctypes.CDLL(None)
LIBC.malloc_usable_size.restype = ctypes.c_size_t
LIBC.malloc_usable_size.argtypes = [ctypes.c_void_p]


@dataclass(frozen=True)
class Shader:
    """One kernel: its WGSL, which tensors it writes, the types of its scalars (in the order of arguments), and what a
    launch passes after them."""

    name: str
    source: str
    written: tuple[bool, ...]
    scalars: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def workgroup(self) -> tuple[int, int, int]:
        """The threads of a workgroup."""
        x, y, z = re.search(r"@workgroup_size\((\d+), (\d+), (\d+)\)", self.source).groups()
        return int(x), int(y), int(z)


_THREADS = ("max-compute-invocations-per-workgroup", "max-compute-workgroup-size-x")
_generate = tvm.get_global_func("target.build.webgpu")
_launch_tags: dict[str, list[str]] = {}


def _generate_and_note(mod: tvm.IRModule, target: tvm.target.Target) -> tvm.runtime.Module:
    """Call TVM's code generator, and record in `_launch_tags` what a launch passes besides the arguments."""
    for function in mod.functions.values():
        name = str(function.attrs["global_symbol"])
        _launch_tags[name] = [str(tag) for tag in function.attrs["tirx.kernel_launch_params"]]
    return _generate(mod, target)


tvm_ffi.register_global_func("target.build.webgpu", _generate_and_note, override=True)


def shaders(module: tvm.runtime.Module) -> dict[str, Shader]:
    """Collect the kernels of a compiled module by name."""
    found = {}
    for imported in module.imports:
        text = imported.inspect_source()
        for part in re.split(r"//-+\n// Function: ", text)[1:]:
            name, _, source = part.partition("\n")
            source = source.partition("\n")[2]
            bindings = re.findall(r"var<storage, (read|read_write)>", source)
            struct = re.search(r"struct PODArgs \{(.*?)\}", source, re.S)
            fields = re.findall(r"\w+\s*:\s*(\w+)", struct.group(1))[:-1] if struct else []
            found[name] = Shader(
                name, source, tuple(mode == "read_write" for mode in bindings), tuple(fields), tuple(_launch_tags[name])
            )
    return found


def emulated(target: TargetRecord) -> TargetRecord:
    """Change `target` to host code for this machine, with tensors in its memory."""
    config = {key: value for key, value in target.tvm_target.export().items() if key != "host"}
    on_cpu = {"target_device_type": int(tvm.cpu().dlpack_device_type()), "host": {"kind": "llvm"}}
    return replace(target, tvm_target=tvm.target.Target({**config, **on_cpu}))


def owner_of(executable: tvm.runtime.Executable) -> tvm.runtime.Module:
    """Find the module of an executable that imports the kernels."""
    modules = [executable.mod]
    for module in modules:
        if any(imported.kind == "webgpu" for imported in module.imports):
            return module
        modules.extend(module.imports)
    raise AssertionError("the executable has no kernels for WebGPU")


@functools.cache
def device():
    """Open a WebGPU device, with 16-bit floats if the adapter has them; None if there is no adapter."""
    os.environ.setdefault("XDG_RUNTIME_DIR", "/tmp")
    try:
        import wgpu
    except ImportError:
        return None
    adapters = [a for a in wgpu.gpu.enumerate_adapters_sync() if a.info["backend_type"] != "OpenGL"]
    if not adapters:
        return None
    adapter = adapters[0]
    features = [name for name in ("shader-f16",) if name in adapter.features]
    limits = {
        "max-storage-buffers-per-shader-stage": 10,
        "max-compute-workgroup-storage-size": 32768,
        # More than browsers have, for tests of larger tiles.
        **{name: min(1024, adapter.limits[name]) for name in _THREADS},
    }
    return adapter.request_device_sync(required_features=features, required_limits=limits)


class Runner:
    """Registers the kernels of a module as global functions, which the host code then finds by name."""

    def __init__(self, module: tvm.runtime.Module) -> None:
        self.device = device()
        self.pipelines: dict[str, object] = {}
        self.launches: list[str] = []
        for name, shader in shaders(module).items():
            tvm_ffi.register_global_func(name, functools.partial(self._launch, shader), override=True)
        module.clear_imports()

    def _launch(self, shader: Shader, *args: object) -> None:
        import wgpu

        self.launches.append(shader.name)
        if shader.name not in self.pipelines:
            module = self.device.create_shader_module(code=shader.source)
            self.pipelines[shader.name] = self.device.create_compute_pipeline(
                layout="auto", compute={"module": module, "entry_point": shader.name}
            )
        pipeline = self.pipelines[shader.name]
        count = len(shader.written)
        pointers = [a for a in args if not isinstance(a, (int, float))]
        numbers = [a for a in args if isinstance(a, (int, float))]
        assert len(pointers) == count, (shader.name, args, shader)
        scalars, extents = numbers[: len(shader.scalars)], numbers[len(shader.scalars) :]
        grid = {"blockIdx.x": 1, "blockIdx.y": 1, "blockIdx.z": 1}
        grid |= dict(zip(shader.tags, extents, strict=True))
        buffers, sizes = [], []
        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
        by_address: dict[int, object] = {}
        for pointer in pointers:
            address = (
                pointer if isinstance(pointer, int) else pointer.value if hasattr(pointer, "value") else int(pointer)
            )
            nbytes = LIBC.malloc_usable_size(address) // 4 * 4
            nbytes = nbytes if nbytes <= LARGEST else USED
            if address not in by_address:
                data = (ctypes.c_char * nbytes).from_address(address)
                by_address[address] = self.device.create_buffer_with_data(data=bytes(data), usage=usage)
            buffers.append(by_address[address])
            sizes.append((address, nbytes))
        fields = b"".join(_packed(value, kind) for value, kind in zip(scalars, shader.scalars, strict=True))
        fields += int(grid["blockIdx.x"]).to_bytes(4, "little")
        fields += b"\0" * (-len(fields) % 16)
        uniform = self.device.create_buffer_with_data(data=fields, usage=wgpu.BufferUsage.UNIFORM)
        entries = [
            {"binding": i, "resource": {"buffer": b, "offset": 0, "size": b.size}} for i, b in enumerate(buffers)
        ]
        entries.append({"binding": count, "resource": {"buffer": uniform, "offset": 0, "size": uniform.size}})
        group = self.device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=entries)
        encoder = self.device.create_command_encoder()
        work = encoder.begin_compute_pass()
        work.set_pipeline(pipeline)
        work.set_bind_group(0, group)
        assert grid["blockIdx.z"] == 1, shader.name
        work.dispatch_workgroups(int(grid["blockIdx.x"]), int(grid["blockIdx.y"]), 1)
        work.end()
        self.device.queue.submit([encoder.finish()])
        for (address, nbytes), written in zip(sizes, shader.written, strict=True):
            if written:
                ctypes.memmove(address, bytes(self.device.queue.read_buffer(by_address[address])), nbytes)


def _packed(value: float, kind: str) -> bytes:
    if kind == "f32":
        return bytes(ctypes.c_float(value))
    return (int(value) & 0xFFFFFFFF).to_bytes(4, "little")
