//! The Node-API binding: it converts arguments, calls the core and rings the doorbell. It knows no policy and no default.
