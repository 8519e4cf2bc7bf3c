import { type DeviceInfo, ZebraError } from '@zebra/tensor';
import type { ComputeDType } from '@zebra/tensor/nn';

/**
 * What layers compute in. Software adapters may have float16, but gain nothing by it.
 *
 * @param compute what is asked for, if anything is
 */
export function computeDTypeOf(
  info: Pick<DeviceInfo, 'float16' | 'software' | 'description' | 'vendor'>,
  compute?: ComputeDType,
): ComputeDType {
  if (compute === 'float16' && !info.float16) {
    throw new ZebraError(
      'device',
      `--compute float16: ${info.description || info.vendor} lacks shader-f16. Give --compute float32.`,
    );
  }
  return compute ?? (info.float16 && !info.software ? 'float16' : 'float32');
}
