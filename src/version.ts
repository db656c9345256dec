// The version of this package, for the loader to hold the native part to: a constant, because a bundle has another
// package.json beside it, or none. `npm run bump` changes it together with every other place.

/** As in package.json. */
export const VERSION = '0.1.0';
