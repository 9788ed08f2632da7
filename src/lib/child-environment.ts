/** What programs of the system need to be found, to find their libraries and files, and to speak a language. */
const PASSED_ON = /^(?:PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|LD_LIBRARY_PATH|XDG_RUNTIME_DIR)$/;

/** The environment of programs that we start: not ours, which may hold a store's credentials. */
export function childEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => PASSED_ON.test(name)));
}
