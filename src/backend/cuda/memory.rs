//! Device memory and what lies in it: activations, parameters, links.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use super::bindings::{CHTSL_BF16, CHTSL_F32, chtsl_act, chtsl_links, chtsl_matrix};
use super::runtime::{Element, GemmOperand, Runtime};
use crate::error::{Error, Result};
use crate::sparse::Pattern;

/// Tokens are padded to a multiple of this.
pub const TOKEN_PADDING: usize = 128;

/// A piece of device memory, freed when dropped. Without bytes it is a null pointer.
pub struct Memory {
    runtime: Arc<dyn Runtime>,
    pointer: *mut c_void,
    bytes: usize,
}

// SAFETY: the pointer names device memory that only this value owns; the host never follows it, and
// the stream orders all work on it.
unsafe impl Send for Memory {}
// SAFETY: as above; shared references only read the pointer.
unsafe impl Sync for Memory {}

impl Memory {
    /// Memory with arbitrary contents.
    pub fn new(runtime: &Arc<dyn Runtime>, bytes: usize) -> Result<Self> {
        let pointer = if bytes == 0 { std::ptr::null_mut() } else { runtime.allocate(bytes)? };
        Ok(Memory { runtime: runtime.clone(), pointer, bytes })
    }

    /// Zeroed memory.
    pub fn zeroed(runtime: &Arc<dyn Runtime>, bytes: usize) -> Result<Self> {
        let mut memory = Memory::new(runtime, bytes)?;
        memory.clear()?;
        Ok(memory)
    }

    /// Memory with a copy of `data`.
    pub fn from_slice<T: bytemuck::Pod>(runtime: &Arc<dyn Runtime>, data: &[T]) -> Result<Self> {
        let mut memory = Memory::new(runtime, size_of_val(data))?;
        memory.write(0, data)?;
        Ok(memory)
    }

    /// First byte.
    pub fn pointer(&self) -> *mut c_void {
        self.pointer
    }

    /// Size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets all bytes to zero.
    pub fn clear(&mut self) -> Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        // SAFETY: the whole of our own memory.
        unsafe { self.runtime.clear(self.pointer, self.bytes) }
    }

    /// Copies `data` to byte `offset`. Panics when it does not fit: callers have compared lengths.
    pub fn write<T: bytemuck::Pod>(&mut self, offset: usize, data: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        assert!(offset + bytes.len() <= self.bytes, "a copy beyond the end of device memory");
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the assertion above.
        unsafe { self.runtime.upload(self.pointer.wrapping_byte_add(offset), bytes) }
    }

    /// Copies from byte `offset` on. Panics when that is beyond the end.
    pub fn read<T: bytemuck::Pod>(&self, offset: usize, data: &mut [T]) -> Result<()> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(data);
        assert!(offset + bytes.len() <= self.bytes, "a copy beyond the end of device memory");
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the assertion above.
        unsafe { self.runtime.download(bytes, self.pointer.wrapping_byte_add(offset)) }
    }

    /// Copies all of `from`, which must have the same size.
    pub fn copy_from(&mut self, from: &Memory) -> Result<()> {
        assert_eq!(self.bytes, from.bytes, "a copy between device memories of different sizes");
        if self.bytes == 0 {
            return Ok(());
        }
        // SAFETY: equal sizes, and two owners cannot overlap.
        unsafe { self.runtime.copy(self.pointer, from.pointer, self.bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !self.pointer.is_null() {
            // SAFETY: allocated by this runtime, and this was the only owner.
            unsafe { self.runtime.free(self.pointer) }
        }
    }
}

/// A (features, tokens) activation: one row per feature, padded with zeros.
pub struct Act {
    pub(super) memory: Memory,
    pub(super) features: usize,
    pub(super) tokens: usize,
    pub(super) stride: usize,
    pub(super) element: Element,
}

impl Act {
    /// A zeroed activation.
    pub fn new(
        runtime: &Arc<dyn Runtime>,
        features: usize,
        tokens: usize,
        element: Element,
    ) -> Result<Self> {
        let stride = tokens.next_multiple_of(TOKEN_PADDING);
        if features >= 1 << 31 || stride >= 1 << 31 {
            return Err(Error::shape(
                "act",
                "fewer than 2^31 features and tokens",
                format!("{features} x {tokens}"),
            ));
        }
        let memory = Memory::zeroed(runtime, features * stride * element.bytes())?;
        Ok(Act { memory, features, tokens, stride, element })
    }

    /// (features, tokens).
    pub(super) fn extents(&self) -> (usize, usize) {
        (self.features, self.tokens)
    }

    /// As launchers take it.
    pub(super) fn raw(&self) -> chtsl_act {
        chtsl_act {
            data: self.memory.pointer(),
            features: self.features as u32,
            tokens: self.tokens as u32,
            stride: self.stride as u32,
            type_: code(self.element),
        }
    }

    /// Size in memory.
    pub(super) fn bytes(&self) -> usize {
        self.features * self.stride * self.element.bytes()
    }

    /// As an operand of the dense library.
    pub(super) fn operand(&self, transposed: bool) -> GemmOperand {
        let (data, element) = (self.memory.pointer(), self.element);
        GemmOperand { data, element, stride: self.stride, transposed }
    }

    /// Copies from row-major (features, tokens), rounding to the element type.
    pub(super) fn write(&mut self, data: &[f32]) -> Result<()> {
        let (n, stride) = (self.tokens, self.stride);
        let padded = |zero: f32| {
            let mut all = vec![zero; self.features * stride];
            for (to, from) in all.chunks_exact_mut(stride.max(1)).zip(data.chunks_exact(n.max(1))) {
                to[..n].copy_from_slice(from);
            }
            all
        };
        match self.element {
            Element::F32 => self.memory.write(0, &padded(0.0)),
            Element::Bf16 => self.memory.write(0, &to_bf16(&padded(0.0))),
        }
    }

    /// Copies to row-major (features, tokens).
    pub(super) fn read(&self) -> Result<Vec<f32>> {
        let all = self.read_range(0, self.features * self.stride)?;
        let rows = all.chunks_exact(self.stride.max(1));
        Ok(rows.flat_map(|row| row[..self.tokens].iter().copied()).collect())
    }

    /// Elements as stored, padding included.
    pub(super) fn read_range(&self, first: usize, len: usize) -> Result<Vec<f32>> {
        let offset = first * self.element.bytes();
        match self.element {
            Element::F32 => {
                let mut all = vec![0.0; len];
                self.memory.read(offset, &mut all)?;
                Ok(all)
            }
            Element::Bf16 => {
                let mut all = vec![0u16; len];
                self.memory.read(offset, &mut all)?;
                Ok(all.iter().map(|&b| half::bf16::from_bits(b).to_f32()).collect())
            }
        }
    }
}

/// An activation in a part of scratch memory, contents arbitrary, the padding included: whoever writes
/// it writes whole rows.
pub(super) struct View<'a> {
    act: Act,
    memory: PhantomData<&'a Memory>,
}

impl<'a> View<'a> {
    /// An activation of the extents and type of `like`, from byte `offset` on. Panics when it does not
    /// fit.
    pub fn new(memory: &'a Memory, offset: usize, like: &Act) -> Self {
        assert!(offset + like.bytes() <= memory.bytes, "a view beyond the end of scratch memory");
        let part = Memory {
            runtime: memory.runtime.clone(),
            pointer: memory.pointer.wrapping_byte_add(offset),
            bytes: like.bytes(),
        };
        let (features, tokens) = (like.features, like.tokens);
        let act =
            Act { memory: part, features, tokens, stride: like.stride, element: like.element };
        View { act, memory: PhantomData }
    }
}

impl Deref for View<'_> {
    type Target = Act;

    fn deref(&self) -> &Act {
        &self.act
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        // The memory is another's: a null pointer is not freed.
        self.act.memory.pointer = std::ptr::null_mut();
    }
}

/// Rounds to bf16, nearest even.
pub(super) fn to_bf16(x: &[f32]) -> Vec<u16> {
    x.iter().map(|x| half::bf16::from_f32(*x).to_bits()).collect()
}

/// Code of an element type in the C interface.
pub(super) fn code(element: Element) -> i32 {
    match element {
        Element::F32 => CHTSL_F32 as i32,
        Element::Bf16 => CHTSL_BF16 as i32,
    }
}

/// A row-major matrix as launchers take it.
pub(super) fn matrix(
    data: *mut c_void,
    rows: usize,
    cols: usize,
    stride: usize,
    element: Element,
) -> chtsl_matrix {
    let (rows, cols, stride) = (rows as u32, cols as u32, stride as u32);
    chtsl_matrix { data, rows, cols, stride, type_: code(element) }
}

/// A flat f32 array: parameters, gradients, moments. As a parameter of bf16 products it also holds
/// its own rounded copy, made on first use and kept up to date from then on.
pub struct Buf {
    pub(super) memory: Memory,
    pub(super) len: usize,
    pub(super) operand: Mutex<Option<Operand>>,
}

/// Rounded copy of a parameter in the shape that products read: rows padded to 16 bytes.
pub(super) struct Operand {
    pub memory: Memory,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
    /// Equal to the values as they are now.
    pub current: bool,
}

impl Operand {
    /// As launchers take it.
    pub fn raw(&self) -> chtsl_matrix {
        matrix(self.memory.pointer(), self.rows, self.cols, self.stride, Element::Bf16)
    }
}

impl Buf {
    /// A zeroed buffer.
    pub fn new(runtime: &Arc<dyn Runtime>, len: usize) -> Result<Self> {
        let memory = Memory::zeroed(runtime, len * 4)?;
        Ok(Buf { memory, len, operand: Mutex::new(None) })
    }

    /// Bytes of the values and of their rounded copy.
    pub fn bytes(&self) -> usize {
        let operand = self.operand.lock().expect("not poisoned");
        self.memory.bytes() + operand.as_ref().map_or(0, |o| o.memory.bytes())
    }

    /// First element, as launchers take it.
    pub(super) fn raw(&self) -> *mut f32 {
        self.memory.pointer().cast()
    }

    /// As a row-major f32 matrix; the caller has compared `rows·cols` with the length.
    pub(super) fn matrix(&self, rows: usize, cols: usize) -> chtsl_matrix {
        matrix(self.memory.pointer(), rows, cols, cols, Element::F32)
    }

    /// Marks the rounded copy as outdated. Every change of the values but Adam's ends here.
    pub(super) fn changed(&mut self) {
        if let Some(operand) = self.operand.get_mut().expect("not poisoned") {
            operand.current = false;
        }
    }
}

/// Links on the device, both ways.
pub struct Index {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) nnz: usize,
    pub(super) row_offsets: Memory,
    pub(super) column_indices: Memory,
    pub(super) col_offsets: Memory,
    pub(super) row_indices: Memory,
    /// CSR position of each link in CSC order.
    pub(super) source: Memory,
}

impl Index {
    /// Uploads a pattern and its transpose.
    pub fn new(runtime: &Arc<dyn Runtime>, pattern: &Pattern) -> Result<Self> {
        let t = pattern.transposed();
        Ok(Index {
            rows: pattern.rows(),
            cols: pattern.cols(),
            nnz: pattern.nnz(),
            row_offsets: Memory::from_slice(runtime, pattern.row_offsets())?,
            column_indices: Memory::from_slice(runtime, pattern.column_indices())?,
            col_offsets: Memory::from_slice(runtime, &t.col_offsets)?,
            row_indices: Memory::from_slice(runtime, &t.row_indices)?,
            source: Memory::from_slice(runtime, &t.source)?,
        })
    }

    /// Bytes of both directions.
    pub fn bytes(&self) -> usize {
        let offsets = self.row_offsets.bytes() + self.col_offsets.bytes();
        let links = [&self.column_indices, &self.row_indices, &self.source];
        offsets + links.iter().map(|m| m.bytes()).sum::<usize>()
    }

    fn links(&self, offsets: &Memory, indices: &Memory) -> chtsl_links {
        chtsl_links {
            offsets: offsets.pointer().cast(),
            indices: indices.pointer().cast(),
            rows: self.rows as u32,
            cols: self.cols as u32,
            nnz: self.nnz as u32,
        }
    }

    /// Links row by row.
    pub(super) fn csr(&self) -> chtsl_links {
        self.links(&self.row_offsets, &self.column_indices)
    }

    /// Links column by column.
    pub(super) fn csc(&self) -> chtsl_links {
        self.links(&self.col_offsets, &self.row_indices)
    }
}
