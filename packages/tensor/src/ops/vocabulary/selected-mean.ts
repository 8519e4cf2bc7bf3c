import { allocateTensor, defineOp, type Reference } from '../../core/define-op.js';
import { type HostTensor, hostTensor } from '../../core/host.js';
import type { Tensor } from '../../core/tensor.js';
import { assertComputable } from '../row/checks.js';
import { planRows, rowGroups } from '../row/row-lanes.wgsl.js';
import { selectedRows } from './reference.js';
import { meanGradientKernel, meanKernel } from './selected-mean.wgsl.js';
import { assertSelection, type Selection, selectionParams } from './selection.js';

/** Attributes of {@link selectedMeanOp}. */
export interface SelectedMeanAttributes {
  /** What the second input says; undefined without one: everything counts. */
  readonly selection?: Selection | undefined;
  /** Factor of the mean. */
  readonly factor: number;
}

/** Writes the mean and what each value's gradient is multiplied by. @internal */
export function meanInto(
  x: Tensor,
  by: Tensor | undefined,
  { selection, factor }: SelectedMeanAttributes,
  y: Tensor,
  slope: Tensor,
): void {
  const { device } = x;
  const plan = planRows(device, x.size, { vector: false });
  device.dispatch(meanKernel, {
    bindings: { x: x.range(), selection: by?.range(), y: y.range(), slope: slope.range() },
    params: { rows: 1, units: plan.units, factor, ...selectionParams(selection) },
    constants: plan.constants,
    groups: rowGroups(device, meanKernel, 1, plan),
  });
}

/** Float64 twin of a loss that is the mean over the rows that count of another operation's values. @internal */
export function meanReference<A>(
  rows: Reference<A>,
  by: number,
  selectionOf: (attributes: A, inputs: readonly (HostTensor | undefined)[]) => Selection | undefined,
): Reference<A> {
  const mean = (inputs: readonly (HostTensor | undefined)[], attributes: A) =>
    [{ selection: selectionOf(attributes, inputs), factor: 1 }, inputs[by]] as const;
  return {
    forward(inputs, attributes) {
      const [options, selection] = mean(inputs, attributes);
      return selectedMeanReference.forward([rows.forward(inputs, attributes)[0], selection], options);
    },
    backward(inputs, attributes, upstream) {
      const [options, selection] = mean(inputs, attributes);
      const values = rows.forward(inputs, attributes)[0];
      return rows.backward!(
        inputs,
        attributes,
        selectedMeanReference.backward!([values, selection], options, upstream),
      );
    },
  };
}

const reference = (x: HostTensor, by: HostTensor | undefined, { selection, factor }: SelectedMeanAttributes) => {
  const rows = selectedRows(x.data.length, selection, by);
  return { rows, slope: rows.length > 0 ? factor / rows.length : 0 };
};

const selectedMeanReference: Reference<SelectedMeanAttributes> = {
  forward([x, by], attributes) {
    const { rows, slope } = reference(x!, by, attributes);
    return [hostTensor([1], [rows.reduce((sum, n) => sum + x!.data[n]!, 0) * slope])];
  },
  backward([x, by], attributes, [g]) {
    const { rows, slope } = reference(x!, by, attributes);
    const d = hostTensor(x!.shape);
    for (const n of rows) d.data[n] = g!.data[0]! * slope;
    return [d];
  },
};

/**
 * The mean of those values that count, times a factor. How many count is found on the device, so that a recorded
 * program sees each batch's own number. Nothing counts: 0, with gradients of 0.
 *
 * Inputs: values, selection. Outputs: [1], and what each value's gradient is multiplied by.
 */
export const selectedMeanOp = defineOp<SelectedMeanAttributes>({
  name: 'selectedMean',
  shape([x, by]) {
    assertComputable('selectedMean', 'values', x!);
    if (by) assertSelection('selectedMean', 'selection', by, x!.shape);
    return [
      { shape: [1], dtype: 'float32' },
      { shape: [1], dtype: 'float32' },
    ];
  },
  forward({ inputs: [x, by], outputs: [y, slope], attributes }) {
    meanInto(x!, by, attributes, y!, slope!);
  },
  backward({ device, inputs: [x, by], outputs: [, slope], gradients: [g], attributes: { selection } }) {
    const d = allocateTensor(device, x!);
    device.dispatch(meanGradientKernel, {
      bindings: { g: g!.range(), selection: by?.range(), slope: slope!.range(), d: d.range() },
      params: { count: d.size, ...selectionParams(selection) },
      groups: Math.ceil(d.size / device.workgroupOf(meanGradientKernel)),
    });
    return [d];
  },
  reference: selectedMeanReference,
});

/** The mean, times a factor, of the rows that a selection names. Disposes of `values`. @internal */
export function meanOfRows(
  values: Tensor,
  by: Tensor | undefined,
  selection: Selection | undefined,
  factor = 1,
): Tensor {
  const [y, slope] = selectedMeanOp.apply([values, by], { selection, factor });
  slope!.dispose();
  values.dispose();
  return y!;
}

/**
 * The mean of the values whose mask is not 0. How many there are is counted on the device, so that recorded programs
 * follow the mask.
 *
 * @param values any shape, float32 or float16
 * @param mask int32 of the same shape
 * @returns [1], float32; 0, with gradients of 0, where the mask is all 0. The caller owns it
 * @throws ZebraError `shape` or `dtype` for inputs that do not fit
 */
export function maskedMean(values: Tensor, mask: Tensor): Tensor {
  const [y, slope] = selectedMeanOp.apply([values, mask], { selection: { kind: 'mask' }, factor: 1 });
  slope!.dispose();
  return y!;
}
