import { describe, expect, it } from 'vitest';
import { relativeError, testDevice } from '../testing/index.js';
import {
  buildRopeTables,
  llama3Frequencies,
  plainFrequencies,
  ropeAngles,
  yarnCorrectionRange,
  yarnFrequencies,
  yarnMagnitude,
} from './rope-tables.js';

const zebra = (dimension: number, factor: number) => ({
  theta: 500_000,
  dimension,
  factor,
  originalMaxPositionEmbeddings: 8192,
});

describe('plainFrequencies', () => {
  it('falls from 1 by a constant ratio', () => {
    const got = plainFrequencies(10_000, 8);
    [1, 0.1, 0.01, 0.001].forEach((value, i) => {
      expect(got[i]).toBeCloseTo(value, 14);
    });
  });

  it('refuses an odd dimension and a base of 1', () => {
    expect(() => plainFrequencies(10_000, 7)).toThrow(/dimension must be even and at least 2, got 7/);
    expect(() => plainFrequencies(1, 8)).toThrow(/theta must be a number above 1, got 1/);
  });
});

describe('llama3Frequencies', () => {
  const scaling = {
    theta: 500_000,
    dimension: 64,
    factor: 32,
    lowFrequencyFactor: 1,
    highFrequencyFactor: 4,
    originalMaxPositionEmbeddings: 8192,
  };

  it('keeps short wavelengths, stretches long ones, and blends continuously between', () => {
    const plain = plainFrequencies(500_000, 64);
    const scaled = llama3Frequencies(scaling);
    const ratios = plain.map((f, i) => scaled[i]! / f);
    plain.forEach((f, i) => {
      const wavelength = (2 * Math.PI) / f;
      if (wavelength < 2048) expect(ratios[i]).toBe(1);
      else if (wavelength > 8192) expect(ratios[i]).toBeCloseTo(1 / 32, 15);
      else {
        // The share s of the plain frequency runs linearly in 1/wavelength, from 0 at 8192 to 1 at 2048.
        const s = (8192 / wavelength - 1) / 3;
        expect(ratios[i]).toBeCloseTo(1 / 32 + (s * 31) / 32, 14);
      }
      if (i > 0) expect(ratios[i]!).toBeLessThanOrEqual(ratios[i - 1]!);
    });
    const blended = ratios.filter((ratio) => ratio < 1 && ratio > 1 / 31.9);
    expect(blended.length).toBeGreaterThan(0);
  });

  it('refuses factors in the wrong order', () => {
    expect(() => llama3Frequencies({ ...scaling, lowFrequencyFactor: 4 })).toThrow(/lowFrequencyFactor must be below/);
  });
});

describe('yarnFrequencies', () => {
  it('has the published bounds: 1B, then 3B and 8B', () => {
    expect(yarnCorrectionRange(zebra(32, 32))).toEqual([4, 9]);
    expect(yarnCorrectionRange(zebra(64, 32))).toEqual([9, 18]);
    expect(yarnCorrectionRange(zebra(64, 8))).toEqual([9, 18]);
  });

  it('has the published attention factors', () => {
    expect(yarnFrequencies(zebra(32, 32)).attentionFactor).toBeCloseTo(1.34657, 5);
    expect(yarnFrequencies(zebra(64, 8)).attentionFactor).toBeCloseTo(1.20794, 5);
    expect(yarnFrequencies({ ...zebra(64, 8), mscaleAllDim: 1 }).attentionFactor).toBe(1);
    expect(yarnFrequencies(zebra(64, 0.5)).attentionFactor).toBe(1);
    expect(yarnMagnitude(40, 0.7)).toBeCloseTo(1.25822, 5);
  });

  it('keeps frequencies up to low, divides those from high on, and ramps between', () => {
    const plain = plainFrequencies(500_000, 32);
    const { frequencies } = yarnFrequencies(zebra(32, 32));
    plain.forEach((f, i) => {
      const ramp = Math.min(Math.max((i - 4) / 5, 0), 1);
      expect(frequencies[i]! / f).toBeCloseTo(1 - ramp + ramp / 32, 14);
    });
  });

  it('stays finite where both bounds are the same', () => {
    // With two turns as both bounds floor and ceil part by at most 1; a context this short puts both at 0.
    const scaling = {
      theta: 10_000,
      dimension: 8,
      factor: 4,
      originalMaxPositionEmbeddings: 6,
      betaFast: 2,
      betaSlow: 1,
    };
    expect(yarnCorrectionRange(scaling)[0]).toBe(0);
    expect(yarnCorrectionRange(scaling)[1] + 0).toBe(0);
    const { frequencies } = yarnFrequencies(scaling);
    // i = 0 is not past the bound and stays; all others are.
    plainFrequencies(10_000, 8).forEach((f, i) => {
      expect(frequencies[i]).toBeCloseTo(i === 0 ? f : f / 4, 12);
    });
  });
});

describe('buildRopeTables', async () => {
  const device = await testDevice();

  it('uploads cos and sin of every position, scaled', async () => {
    const { frequencies, attentionFactor } = yarnFrequencies(zebra(32, 32));
    const tables = buildRopeTables(device, frequencies, 300, attentionFactor);
    const expected = ropeAngles(frequencies, 300, attentionFactor);
    expect(tables.cos.shape).toEqual([300, 16]);
    expect(expected.sin[299 * 16 + 1]).toBe(Math.sin(299 * frequencies[1]!) * attentionFactor);
    // Rounding to float32 alone.
    expect(relativeError(await tables.cos.read(), expected.cos)).toBeLessThan(4e-8);
    expect(relativeError(await tables.sin.read(), expected.sin)).toBeLessThan(4e-8);
    tables.cos.dispose();
    tables.sin.dispose();
  });

  it('refuses an empty table', () => {
    expect(() => buildRopeTables(device, plainFrequencies(10_000, 4), 0)).toThrow(
      /number of positions must be a positive integer/,
    );
  });
});
