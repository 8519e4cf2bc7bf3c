const NAP_MS = 1;

/**
 * Waits for a GPU promise without burning a core. Dawn's Node binding polls on every turn of the event loop, which on
 * a software adapter takes a core from the very work that is waited for (measured: 1.6 times slower on two cores). So
 * with `nap`, in Node, each turn sleeps for a millisecond while the promise is pending.
 */
export async function settle<T>(promise: Promise<T>, nap: boolean): Promise<T> {
  if (!nap || typeof process === 'undefined' || !process.versions?.node) return promise;
  let pending = true;
  const done = () => {
    pending = false;
  };
  promise.then(done, done);
  // The first turns are free, so that short waits on a fast GPU stay short.
  for (let turn = 0; pending; turn++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
    if (pending && turn > 20) Atomics.wait(napCell, 0, 0, NAP_MS);
  }
  return promise;
}

const napCell = new Int32Array(
  typeof SharedArrayBuffer === 'undefined' ? new ArrayBuffer(4) : new SharedArrayBuffer(4),
);
