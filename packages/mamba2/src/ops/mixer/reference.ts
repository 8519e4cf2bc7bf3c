import { type HostTensor, hostTensor } from '@zebra/tensor';
import type { Mamba2Sizes } from '../../config.js';
import { convolutionReference, convolutionReferenceBackward } from '../causal-convolution/reference.js';
import { gatedNormReference, gatedNormReferenceBackward } from '../gated-norm/reference.js';
import { ssdReference, ssdReferenceBackward } from '../ssd/reference.js';
import { convolvedLayout, rowOffsets } from './operands.js';

type Hosts = readonly (HostTensor | undefined)[];

/** Columns of a tensor [B, T, W], given by their places in the row. */
function take(x: HostTensor, places: readonly number[], tail: readonly number[] = [places.length]): HostTensor {
  const [batch, length, width] = x.shape as [number, number, number];
  const out = hostTensor([batch, length, ...tail]);
  for (let token = 0; token < batch * length; token++) {
    places.forEach((place, k) => {
      out.data[token * places.length + k] = x.data[token * width + place]!;
    });
  }
  return out;
}

/** Adds columns back to their places: the gradient of {@link take}. */
function give(into: HostTensor, places: readonly number[], g: HostTensor): void {
  const width = into.shape[2]!;
  const tokens = into.data.length / width;
  for (let token = 0; token < tokens; token++) {
    places.forEach((place, k) => {
      into.data[token * width + place]! += g.data[token * places.length + k]!;
    });
  }
}

const range = (first: number, count: number) => Array.from({ length: count }, (_, k) => first + k);

function placesOf(sizes: Mamba2Sizes) {
  const { innerSize, xbSize, headDim, groupSize, headCount, repeatKvBeforeConv } = sizes;
  const row = rowOffsets(sizes);
  const repeated = (first: number) =>
    range(0, innerSize).map((c) => first + Math.floor(c / (headDim * groupSize)) * headDim + (c % headDim));
  const shared = (first: number) => (repeatKvBeforeConv ? repeated(first) : range(first, xbSize));
  const first = row.convolved;
  return {
    z: range(row.z, innerSize),
    convolved: [...shared(first), ...shared(first + xbSize), ...range(first + 2 * xbSize, innerSize)],
    dt: range(row.dt, headCount),
  };
}

function forwardParts(inputs: Hosts, sizes: Mamba2Sizes, states?: readonly HostTensor[]) {
  const [row, convWeight, convBias, dtBias, aLog, skip, , segments] = inputs;
  const places = placesOf(sizes);
  const layout = convolvedLayout(sizes);
  const heads = sizes.headCount / layout.group;
  const convolutionInputs = [take(row!, places.convolved), convWeight, convBias, segments, states?.[0]];
  const xbc = convolutionReference(convolutionInputs);
  const at = {
    x: range(layout.x, layout.b),
    b: range(layout.b, layout.b),
    c: range(layout.c, sizes.innerSize),
  };
  const ssdInputs = [
    take(xbc, at.x, [heads, sizes.headDim]),
    take(xbc, at.b, [heads, sizes.headDim]),
    take(xbc, at.c, [sizes.headCount, sizes.headDim]),
    take(row!, places.dt),
    dtBias,
    aLog,
    skip,
    segments,
    states?.[1],
  ];
  const [y] = ssdReference(ssdInputs);
  const flat = { shape: [...row!.shape.slice(0, 2), sizes.innerSize], data: y!.data };
  return { places, at, convolutionInputs, xbc, ssdInputs, y: flat, z: take(row!, places.z) };
}

/** The mixer from `in_proj`'s output to `out_proj`'s input: its result and the state space's y. */
export function mixerReference(inputs: Hosts, sizes: Mamba2Sizes, states?: readonly HostTensor[]): HostTensor[] {
  const { y, z } = forwardParts(inputs, sizes, states);
  return [gatedNormReference(y, z, inputs[6]!, sizes.headDim, sizes.normEpsilon), y];
}

/** Gradients of all float inputs. */
export function mixerReferenceBackward(inputs: Hosts, sizes: Mamba2Sizes, g: HostTensor): (HostTensor | undefined)[] {
  const parts = forwardParts(inputs, sizes);
  const [dy, dz, dNorm] = gatedNormReferenceBackward(parts.y, parts.z, inputs[6]!, g, sizes.headDim, sizes.normEpsilon);
  const ssd = ssdReferenceBackward(parts.ssdInputs, dy!);
  const dxbc = hostTensor(parts.xbc.shape);
  [parts.at.x, parts.at.b, parts.at.c].forEach((places, k) => {
    give(dxbc, places, ssd[k]!);
  });
  const [dConvolved, dWeight, dBias] = convolutionReferenceBackward(parts.convolutionInputs, dxbc);
  const dRow = hostTensor(inputs[0]!.shape);
  give(dRow, parts.places.z, dz!);
  give(dRow, parts.places.convolved, dConvolved!);
  give(dRow, parts.places.dt, ssd[3]!);
  return [dRow, dWeight, dBias, ssd[4], ssd[5], ssd[6], dNorm];
}
