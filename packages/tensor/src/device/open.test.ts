import { expect, it } from 'vitest';
import { type AdapterChoice, openDevice } from './open.js';

it('openDevice refuses an adapter that is none of the choices', async () => {
  await expect(openDevice({ adapter: 'cuda' as AdapterChoice })).rejects.toMatchObject({
    code: 'argument',
    message: /adapter must be one of auto, hardware, software, swiftshader, got cuda/,
  });
});
