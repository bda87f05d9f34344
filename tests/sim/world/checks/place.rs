//! A phone is in exactly one place. That a place has at most one phone follows from the model's types.

use std::collections::BTreeMap;

use farmhand::rack::Rack;

pub(crate) fn each_phone_once(rack: &Rack) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    for standing in rack.standings() {
        let Some(phone) = standing.phone else { continue };
        if let Some(other) = seen.insert(phone, standing.endpoint) {
            return Err(format!("phone {phone} is in two places: {other:?} and {:?}", standing.endpoint));
        }
    }
    Ok(())
}
