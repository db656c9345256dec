//! Where small jobs copy. Pure arithmetic, shared by the examples; `bench/places.ts` has the same.

/// The piece of the nth job: every piece once in `pieces` jobs, in an order without a pattern that a device could guess. Odd
/// factors and shifts are one to one on numbers below a power of two, which `pieces` must be.
pub fn place(job: u64, pieces: u64) -> u64 {
    assert!(pieces.is_power_of_two(), "the order of pieces needs a power of two of them, not {pieces}");
    let bits = pieces.trailing_zeros();
    let mut piece = job % pieces;
    for factor in [0x9E37_79B1, 0x85EB_CA6B] {
        piece = piece * factor % pieces;
        piece ^= piece >> (bits / 2).max(1);
    }
    piece
}
