//! `screencap -p`: a picture of a screen, as a PNG.

use std::time::Duration;

/// Points of the screen; small, since a picture is as large as it must be only on a real phone.
pub(super) const WIDTH: u32 = 270;
/// See [`WIDTH`].
pub(super) const HEIGHT: u32 = 600;
/// Dots an inch.
pub(super) const DENSITY: u32 = 160;

/// The screen of the phone with this serial after so long: its own colour, and a bar that moves each second.
///
/// # Errors
/// The encoder failed, which a picture in memory gives it no reason for.
pub(super) fn picture(serial: &str, now: Duration) -> Result<Vec<u8>, png::EncodingError> {
    let hash = serial.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [red, green, blue, _] = hash.to_be_bytes();
    let bar = (now.as_secs() % u64::from(HEIGHT)) as u32;
    let row = |y: u32| {
        let colour =
            if y == bar { [255, 255, 255] } else { [red, green, blue].map(|part| part / 2 + (y * 127 / HEIGHT) as u8) };
        std::iter::repeat_n(colour, WIDTH as usize).flatten()
    };
    let points: Vec<u8> = (0..HEIGHT).flat_map(row).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&points)?;
    writer.finish()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_png_and_moves() {
        let first = picture("S1", Duration::ZERO).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&first)).read_info().unwrap();
        let mut points = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut points).unwrap();
        assert_eq!((info.width, info.height), (WIDTH, HEIGHT));
        assert_ne!(first, picture("S1", Duration::from_secs(5)).unwrap());
        assert_ne!(first, picture("S2", Duration::ZERO).unwrap());
    }
}
