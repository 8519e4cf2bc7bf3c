import { type Device, scope, type Tensor } from '@zebra/tensor';
import type { Running } from './case.js';

/**
 * Captures `f` once, to be replayed. Disposing frees the inputs, what `f` returned and the program.
 *
 * @param inputs made before; `f` may use other tensors too, if somebody else frees them
 * @param beforeRun writes what changes from run to run
 */
export function recorded(
  device: Device,
  inputs: readonly { dispose(): void }[],
  f: () => readonly (Tensor | undefined)[],
  beforeRun: () => void = () => {},
): Running {
  const program = device.capture(() => scope(f));
  return {
    run() {
      beforeRun();
      program.run();
    },
    dispose() {
      for (const made of program.result) made?.dispose();
      program.dispose();
      for (const input of inputs) input.dispose();
    },
  };
}
