import type { Device } from '@zebra/tensor';
import { checkOp } from '@zebra/tensor/testing';
import { squaredReluGateOp } from './squared-relu-gate.js';

/** Shapes that fill no workgroup evenly: that is where kernels go wrong. */
const SHAPES = [[1], [3, 63], [500], [2, 5, 7]];

/**
 * Holds the operation to its reference: outputs, gradients and leaks on the device, and the reference's own gradient
 * against differences. Throws an error that names the case where one is off.
 *
 * @returns how many shapes were checked
 */
export async function checkSquaredReluGate(device: Device): Promise<number> {
  for (const shape of SHAPES) {
    await checkOp(
      device,
      squaredReluGateOp,
      { inputs: [{ shape }, { shape }], attributes: {} },
      // Three roundings at 2⁻²⁴. The numeric check of a function with a bend at 0 is a little coarser than usual.
      { forward: 3e-7, gradient: 3e-7, numeric: 1e-5 },
    );
  }
  return SHAPES.length;
}
