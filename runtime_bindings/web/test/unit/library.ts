import type { Library } from "../../src/library.js";

/** A fake library of a model that always predicts token 1; `passes` records the tokens of every pass. */
export function instantLibrary(gpu: object = {}): { library: Library; passes: number[] } {
  const passes: number[] = [];
  const tensor = {
    shape: [1],
    view: () => tensor,
    get: () => tensor,
    copyFrom: () => tensor,
    toArray: () => Float32Array.of(0, 9, 0),
    dispose: () => undefined,
  };
  const step = (): unknown => tensor;
  const functions: Record<string, unknown> = { create_tir_paged_kv_cache: Object.assign(() => ({}), { dispose: step }) };
  const library = {
    metadata: { contextWindowSize: 16, prefillChunkSize: 4, pageSize: 16, vocabSize: 3, numLayers: 1, kvBytesPerToken: 4 },
    gpu: { device: { limits: { maxBufferSize: 1e9, maxStorageBufferBindingSize: 1e9 } }, check: step, lost: null, ...gpu },
    otherShaders: Promise.resolve(),
    instance: {
      webgpu: () => ({ sync: async () => undefined }),
      cpu: step,
      empty: (shape: number[]) => ({ copyFrom: (ids: unknown) => (Array.isArray(ids) && passes.push(shape[0]!), tensor) }),
      scalar: (value: number) => value,
      makeShapeTuple: (shape: number[]) => shape,
    },
    function: (name: string) => functions[name] ?? step,
    builtin: () => step,
    kept: (make: () => unknown) => make(),
  };
  return { library: library as unknown as Library, passes };
}
