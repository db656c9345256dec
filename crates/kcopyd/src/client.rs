//! A client: owns one scheduler and one engine on one thread, and is the only file that knows both.
