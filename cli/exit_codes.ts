// The exit codes of the command: what scripts rely on. A fatal signal's number is what a shell gives for a program it killed.

/** Every destination is complete. */
export const EXIT_COMPLETE = 0;
/** Something failed; what each destination holds was printed. */
export const EXIT_FAILED = 1;
/** The arguments make no sense; nothing was touched. */
export const EXIT_USAGE = 2;
/** Aborted by a signal; what each destination holds was printed. */
export const EXIT_SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** A signal that aborts. */
export type AbortingSignal = keyof typeof EXIT_SIGNALS;
