// Keeps what is preloaded into Node (a sanitizer) out of other programs that tests start, `dd` or nbdkit, which have bugs of their
// own to report. Another Node gets it back: see `inOwnProcess`.
const { LD_PRELOAD } = process.env;
if (LD_PRELOAD !== undefined) {
  process.env.KCOPYD_TEST_PRELOAD = LD_PRELOAD;
  delete process.env.LD_PRELOAD;
}
