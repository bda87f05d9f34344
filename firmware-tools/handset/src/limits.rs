//! What a host may ask for at most. Each limit is far above what Google's adb asks for.

/// Bytes of a message's payload, as agreed at most in CNXN (adbd: `MAX_PAYLOAD`).
pub const PAYLOAD_BYTES_MAX: u32 = 1024 * 1024;

/// Bytes that a stream takes before they are consumed, with delayed_ack (adbd: `INITIAL_DELAYED_ACK_BYTES` is 32 MiB; less is
/// allowed, and keeps a rack of virtual phones small).
pub const RECEIVE_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Streams open at once on one connection.
pub const STREAMS_MAX: usize = 64;

/// Messages that wait for the transport. Then the services, and after them the host, wait.
pub const OUTGOING_MESSAGES_MAX: usize = 16;

/// Bytes of a path in the sync service (adbd: 1024).
pub const PATH_BYTES_MAX: usize = 1024;

/// Bytes of one DATA chunk in the sync service (adbd: `SYNC_DATA_MAX`).
pub const SYNC_DATA_BYTES_MAX: usize = 64 * 1024;

/// Bytes of one packet of the shell protocol from the host.
pub const SHELL_PACKET_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one line typed into a shell without command.
pub const SHELL_LINE_BYTES_MAX: usize = 64 * 1024;

/// Public keys that a phone remembers; the oldest is forgotten.
pub const KEYS_MAX: usize = 64;
