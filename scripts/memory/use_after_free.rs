//! A library with a bug on purpose: when it is loaded it reads memory that it has freed. `npm run test:memory` loads it into Node
//! to see that the sanitizer, set up as for the addon, sees such a thing there.

use std::hint::black_box;

#[used]
#[unsafe(link_section = ".init_array")]
static ON_LOAD: extern "C" fn() = use_after_free;

extern "C" fn use_after_free() {
    let bytes = Box::into_raw(Box::new([1_u8; 64]));
    // SAFETY: there is none; that is what it is for.
    unsafe {
        drop(Box::from_raw(black_box(bytes)));
        black_box(bytes.cast::<u8>().read_volatile());
    }
}
