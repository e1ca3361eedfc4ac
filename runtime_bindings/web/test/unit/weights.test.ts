import { describe, expect, test } from "vitest";
import { widened } from "../../src/weights.js";

/** The value of a 16-bit float, by its definition in IEEE 754. */
function valueOf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
}

describe("weights in 16-bit floats", () => {
  test("keep every value in 32-bit ones", () => {
    const halves = new Uint16Array(65536).map((_, bits) => bits);
    const wide = new Float32Array(widened(new Uint8Array(halves.buffer)).buffer);
    const different = [...wide.keys()].filter((bits) => !Object.is(wide[bits], Math.fround(valueOf(bits))));
    expect(different).toEqual([]);
  });

  test("may begin anywhere in a shard", () => {
    const shard = Uint8Array.of(9, 0x00, 0x3c, 0x00, 0xc0, 9);
    expect([...new Float32Array(widened(shard.subarray(1, 5)).buffer)]).toEqual([1, -2]);
  });
});
