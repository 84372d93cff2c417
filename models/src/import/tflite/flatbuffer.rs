//! FlatBuffers, as much of them as a TFLite file needs: tables, vectors and strings by offset, every read within bounds.
//!
//! The `flatbuffers` crate checks a buffer against generated code, which for the schema of TFLite is tens of thousands of lines
//! of which an import needs some fifty fields, and its accessors are unsafe without that code. Here a table is a position; a
//! read that leaves the file, or an offset that is no offset, is an error. Nothing is allocated that is longer than what the file
//! holds, and nothing is followed but where the importer asks, so cycles do no harm.

use crate::import::error::ImportProblem;

/// Longest vector of tables or numbers; weights are read as slices and are not bounded by it.
const MAX_VECTOR: usize = 1 << 20;
/// Longest string, in bytes.
const MAX_STRING: usize = 1 << 12;

/// A table of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'f> {
    file: &'f [u8],
    /// Where it starts.
    at: usize,
    /// Its list of field offsets.
    fields: &'f [u8],
}

fn damaged(what: &str) -> ImportProblem {
    ImportProblem::Damaged(what.to_owned())
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N], ImportProblem> {
    let end = at.checked_add(N).ok_or_else(|| damaged("an offset leaves the file"))?;
    let slice = file.get(at..end).ok_or_else(|| damaged("an offset leaves the file"))?;
    Ok(slice.try_into().expect("a slice of N bytes"))
}

fn offset(file: &[u8], at: usize) -> Result<usize, ImportProblem> {
    Ok(u32::from_le_bytes(bytes(file, at)?) as usize)
}

/// Where the offset at `at` leads.
fn follow(file: &[u8], at: usize) -> Result<usize, ImportProblem> {
    match offset(file, at)? {
        0 => Err(damaged("an offset of 0")),
        distance => at.checked_add(distance).ok_or_else(|| damaged("an offset leaves the file")),
    }
}

impl<'f> Table<'f> {
    /// The table that a file starts with.
    pub fn root(file: &'f [u8]) -> Result<Table<'f>, ImportProblem> {
        Table::at(file, follow(file, 0)?)
    }

    fn at(file: &'f [u8], at: usize) -> Result<Table<'f>, ImportProblem> {
        let back = i64::from(i32::from_le_bytes(bytes(file, at)?));
        let start = usize::try_from(at as i64 - back).map_err(|_| damaged("a table without a list of fields"))?;
        let length = usize::from(u16::from_le_bytes(bytes(file, start)?));
        let fields = length
            .checked_sub(4)
            .and_then(|_| file.get(start..)?.get(4..length))
            .ok_or_else(|| damaged("a table without a list of fields"))?;
        Ok(Table { file, at, fields })
    }

    /// The position of field number `field` (its number in the schema, unions count twice); `None` where it is left out.
    fn position(&self, field: usize) -> Result<Option<usize>, ImportProblem> {
        match self.fields.get(2 * field..2 * field + 2) {
            None | Some([0, 0]) => Ok(None),
            Some(offset) => {
                let offset = usize::from(u16::from_le_bytes([offset[0], offset[1]]));
                Ok(Some(self.at.checked_add(offset).ok_or_else(|| damaged("a field leaves the file"))?))
            }
        }
    }

    /// A field of N bytes.
    fn scalar<const N: usize>(&self, field: usize) -> Result<Option<[u8; N]>, ImportProblem> {
        self.position(field)?.map(|at| bytes(self.file, at)).transpose()
    }

    /// A number of 8 bits, an enumeration or a truth value.
    pub fn i8(&self, field: usize, default: i8) -> Result<i8, ImportProblem> {
        Ok(self.scalar(field)?.map_or(default, i8::from_le_bytes))
    }

    /// A number of 32 bits.
    pub fn i32(&self, field: usize, default: i32) -> Result<i32, ImportProblem> {
        Ok(self.scalar(field)?.map_or(default, i32::from_le_bytes))
    }

    /// A number of 32 bits without sign.
    pub fn u32(&self, field: usize, default: u32) -> Result<u32, ImportProblem> {
        Ok(self.scalar(field)?.map_or(default, u32::from_le_bytes))
    }

    /// A number of 64 bits without sign.
    pub fn u64(&self, field: usize, default: u64) -> Result<u64, ImportProblem> {
        Ok(self.scalar(field)?.map_or(default, u64::from_le_bytes))
    }

    /// Another table.
    pub fn table(&self, field: usize) -> Result<Option<Table<'f>>, ImportProblem> {
        self.position(field)?.map(|at| Table::at(self.file, follow(self.file, at)?)).transpose()
    }

    /// The elements of a vector, `size` bytes each, empty where it is left out.
    fn vector(&self, field: usize, size: usize) -> Result<(usize, &'f [u8]), ImportProblem> {
        let Some(at) = self.position(field)? else { return Ok((0, &[])) };
        let at = follow(self.file, at)?;
        let count = offset(self.file, at)?;
        let length = count.checked_mul(size).ok_or_else(|| damaged("a vector leaves the file"))?;
        let elements = self.file.get(at..).and_then(|rest| rest.get(4..)?.get(..length));
        Ok((at + 4, elements.ok_or_else(|| damaged("a vector leaves the file"))?))
    }

    fn numbers<const N: usize, T>(&self, field: usize, of: fn([u8; N]) -> T) -> Result<Vec<T>, ImportProblem> {
        let (_, elements) = self.vector(field, N)?;
        bounded("the length of a vector", elements.len() / N, MAX_VECTOR)?;
        Ok(elements.chunks_exact(N).map(|element| of(element.try_into().expect("N bytes"))).collect())
    }

    /// A vector of bytes, of any length.
    pub fn data(&self, field: usize) -> Result<&'f [u8], ImportProblem> {
        Ok(self.vector(field, 1)?.1)
    }

    /// A vector of numbers of 32 bits.
    pub fn i32s(&self, field: usize) -> Result<Vec<i32>, ImportProblem> {
        self.numbers(field, i32::from_le_bytes)
    }

    /// A vector of numbers of 64 bits.
    pub fn i64s(&self, field: usize) -> Result<Vec<i64>, ImportProblem> {
        self.numbers(field, i64::from_le_bytes)
    }

    /// A vector of floating-point numbers.
    pub fn f32s(&self, field: usize) -> Result<Vec<f32>, ImportProblem> {
        self.numbers(field, f32::from_le_bytes)
    }

    /// A vector of tables.
    pub fn tables(&self, field: usize) -> Result<Vec<Table<'f>>, ImportProblem> {
        let (start, elements) = self.vector(field, 4)?;
        bounded("the length of a vector", elements.len() / 4, MAX_VECTOR)?;
        (start..start + elements.len()).step_by(4).map(|at| Table::at(self.file, follow(self.file, at)?)).collect()
    }

    /// A string; what is not UTF-8 in it is replaced.
    pub fn string(&self, field: usize) -> Result<String, ImportProblem> {
        let bytes = self.data(field)?;
        bounded("the length of a string", bytes.len(), MAX_STRING)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Refuses sizes over a limit.
pub(super) fn bounded(what: &'static str, value: usize, limit: usize) -> Result<(), ImportProblem> {
    if value > limit {
        return Err(ImportProblem::TooLarge { what, value: value as u128, limit: limit as u128 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table at 12 with a number at 4, a vector at 8 that leads to 24, and nothing else.
    fn file() -> Vec<u8> {
        let mut file = vec![0; 4];
        file[0] = 12;
        file.extend([8, 0, 12, 0, 4, 0, 8, 0]); // 4: length of the list, length of the table, two fields
        file.extend([8, 0, 0, 0]); // 12: the list is 8 bytes before
        file.extend([7, 0, 0, 0]); // 16: the number
        file.extend([4, 0, 0, 0]); // 20: the vector is 4 bytes behind
        file.extend([2, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255]); // 24: two numbers
        file
    }

    #[test]
    fn fields_are_read() {
        let file = file();
        let table = Table::root(&file).expect("a table");
        assert_eq!(table.i32(0, 3).expect("a number"), 7);
        assert_eq!(table.i32s(1).expect("a vector"), [1, -1]);
        assert_eq!(table.i32(2, 3).expect("the default"), 3);
        assert!(table.table(3).expect("nothing").is_none());
    }

    #[test]
    fn what_leaves_the_file_is_refused() {
        let whole = file();
        for length in 0..whole.len() {
            let cut = Table::root(&whole[..length]).and_then(|table| table.i32s(1));
            assert!(cut.is_err(), "{length} bytes");
        }
        // Every byte of an offset or a length, set to 255.
        for at in [0, 1, 3, 4, 5, 8, 10, 12, 15, 20, 23, 24, 27] {
            let mut file = whole.clone();
            file[at] = 255;
            let read = Table::root(&file).and_then(|table| Ok((table.i32(0, 3)?, table.i32s(1)?)));
            assert!(read.is_err(), "byte {at}");
        }
        assert!(bounded("what", 5, 4).is_err() && bounded("what", 4, 4).is_ok());
    }
}
