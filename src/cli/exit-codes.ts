/** 0 ok, 1 failed, 2 the command line is wrong, 3 done with warnings. */
export const ExitCode: { readonly ok: 0; readonly failed: 1; readonly usage: 2; readonly warnings: 3 } = {
  ok: 0,
  failed: 1,
  usage: 2,
  warnings: 3,
};
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];
