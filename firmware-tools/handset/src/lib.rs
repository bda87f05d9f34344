//! The device side of ADB.
