import { create, globals } from 'webgpu';

/**
 * What Dawn has to say about WGSL with every feature there is: its null backend runs nothing, but checks. For kernels
 * that the adapter at hand cannot compile, such as those for matrix units.
 *
 * @returns the messages, none for valid code
 */
export async function validateWgsl(codes: Iterable<string>): Promise<string[]> {
  Object.assign(globalThis, globals);
  const instance = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
  const adapter = await instance.requestAdapter();
  if (!adapter) throw new Error('validateWgsl: Dawn has no null backend');
  const device = await adapter.requestDevice({ requiredFeatures: [...adapter.features] as GPUFeatureName[] });
  const found: string[] = [];
  device.pushErrorScope('validation');
  for (const code of codes) {
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    found.push(...messages.map(({ message }) => message));
  }
  const error = await device.popErrorScope();
  if (error && found.length === 0) found.push(error.message);
  device.destroy();
  // Dawn crashes when the instance is collected while its device is at work.
  return instance === undefined ? [] : found;
}
