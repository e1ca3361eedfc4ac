import { expect, test } from "vitest";
import { recordLess } from "../../src/recorder.js";

const STORAGE = 0x80;
const UNIFORM = 0x40;

/** A device that records its calls in `calls`. */
function fakeDevice(): { device: GPUDevice; calls: string[] } {
  const calls: string[] = [];
  const pass = () => ({ dispatchWorkgroups: (x: number) => calls.push(`dispatch ${x}`), end: () => calls.push("end") });
  const encoder = () => ({
    beginComputePass: () => (calls.push("begin"), pass()),
    beginRenderPass: () => calls.push("render"),
    clearBuffer: () => calls.push("clear"),
    copyBufferToBuffer: () => calls.push("copy"),
    finish: () => (calls.push("finish"), {}),
  });
  const queue = { writeBuffer: () => calls.push("write") };
  const device = { createBindGroup: () => (calls.push("group"), {}), createCommandEncoder: encoder, queue };
  recordLess(device as unknown as GPUDevice);
  return { device: device as unknown as GPUDevice, calls };
}

const buffer = (usage: number): GPUBuffer => ({ usage }) as GPUBuffer;
const group = (device: GPUDevice, layout: object, ...buffers: GPUBuffer[]): GPUBindGroup =>
  device.createBindGroup({
    layout: layout as GPUBindGroupLayout,
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });

test("a bind group of the same layout and buffers is made once", () => {
  const { device, calls } = fakeDevice();
  const [layout, one, other] = [{}, buffer(STORAGE), buffer(STORAGE)];
  const first = group(device, layout, one, other);
  expect(group(device, layout, one, other)).toBe(first);
  expect(group(device, layout, other, one)).not.toBe(first);
  expect(group(device, {}, one, other)).not.toBe(first);
  expect(calls).toEqual(["group", "group", "group"]);
});

test("a part of a buffer is not the whole of it", () => {
  const { device, calls } = fakeDevice();
  const [layout, whole] = [{} as GPUBindGroupLayout, buffer(STORAGE)];
  for (const offset of [0, 256, 256]) {
    device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: whole, offset, size: 256 } }] });
  }
  expect(calls).toEqual(["group", "group"]);
});

test("bind groups are forgotten when there are too many", () => {
  const { device, calls } = fakeDevice();
  const [layout, last] = [{}, buffer(STORAGE)];
  group(device, layout, last);
  for (let count = 0; count < 4096; count++) group(device, layout, buffer(STORAGE));
  group(device, layout, last);
  expect(calls).toHaveLength(4098);
});

test("arguments are written where they are others", () => {
  const { device, calls } = fakeDevice();
  const target = buffer(UNIFORM);
  const write = (...words: number[]): void => device.queue.writeBuffer(target, 0, new Uint32Array(words).buffer);
  write(1, 2);
  write(1, 2);
  expect(calls).toHaveLength(1);
  write(1, 3);
  write(1);
  write(1, 3);
  expect(calls).toHaveLength(4);
});

test("another write in between is not forgotten", () => {
  const { device, calls } = fakeDevice();
  const target = buffer(UNIFORM);
  device.queue.writeBuffer(target, 0, new Uint32Array([1, 2]).buffer);
  device.queue.writeBuffer(target, 4, new Uint32Array([5]).buffer);
  device.queue.writeBuffer(target, 0, new Uint32Array([1, 2]).buffer);
  expect(calls).toHaveLength(3);
});

test("what kernels may write to is always written", () => {
  const { device, calls } = fakeDevice();
  const target = buffer(STORAGE);
  for (let count = 0; count < 2; count++) device.queue.writeBuffer(target, 0, new Uint32Array([1]).buffer);
  expect(calls).toHaveLength(2);
});

test("the caller's memory can change after a write", () => {
  const { device, calls } = fakeDevice();
  const [target, words] = [buffer(UNIFORM), new Uint32Array([1])];
  device.queue.writeBuffer(target, 0, words.buffer);
  words[0] = 2;
  device.queue.writeBuffer(target, 0, words.buffer);
  expect(calls).toHaveLength(2);
});

test("kernels that follow each other share a pass, which a copy ends", () => {
  const { device, calls } = fakeDevice();
  const encoder = device.createCommandEncoder();
  const dispatch = (count: number): void => {
    const pass = encoder.beginComputePass();
    pass.dispatchWorkgroups(count);
    pass.end();
  };
  dispatch(1);
  dispatch(2);
  encoder.copyBufferToBuffer(buffer(STORAGE), 0, buffer(STORAGE), 0, 4);
  dispatch(3);
  encoder.finish();
  expect(calls).toEqual(["begin", "dispatch 1", "dispatch 2", "end", "copy", "begin", "dispatch 3", "end", "finish"]);
});

test("an encoder without kernels has no pass", () => {
  const { device, calls } = fakeDevice();
  device.createCommandEncoder().finish();
  expect(calls).toEqual(["finish"]);
});
