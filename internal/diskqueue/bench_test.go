package diskqueue

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// benchBatch is 200 records that take 200 bytes each in the file.
func benchBatch() *Batch {
	b := new(Batch)
	body := bytes.Repeat([]byte("b"), 170)
	payload := append(message(1, ""), body...)
	for range 200 {
		b.Append(func(dst []byte) []byte { return append(dst, payload...) })
	}
	return b
}

func benchOptions(b *testing.B) Options {
	o := testOptions(b, b.TempDir())
	o.Logger = nil
	return o
}

// BenchmarkRawAppend is the limit for Put: 64 KiB writes to a file that starts
// again every 100 MiB.
func BenchmarkRawAppend(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 64<<10)
	off := int64(0)
	for b.Loop() {
		if off >= 100<<20 {
			off = 0
			if err := f.Truncate(0); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := f.WriteAt(chunk, off); err != nil {
			b.Fatal(err)
		}
		off += int64(len(chunk))
	}
	b.ReportMetric(float64(b.N)*float64(len(chunk))/200/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkPut(b *testing.B) {
	for name, syncEvery := range map[string]int64{"default sync": 2500, "rare sync": 1 << 40} {
		b.Run(name, func(b *testing.B) {
			o := benchOptions(b)
			o.SyncEvery = syncEvery
			q := open(b, o)
			batch := new(Batch)
			payload := bytes.Repeat([]byte("b"), 196)
			written := 0
			for b.Loop() {
				batch.Reset()
				for range 200 {
					batch.Append(func(dst []byte) []byte { return append(dst, payload...) })
				}
				if err := q.Put(batch); err != nil {
					b.Fatal(err)
				}
				if written += batch.Size(); written > 1<<30 {
					b.StopTimer()
					written = 0
					if err := q.Empty(); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			}
			b.ReportMetric(float64(b.N)*200/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/200, "ns/record")
		})
	}
}

func BenchmarkTake(b *testing.B) {
	o := benchOptions(b)
	o.SyncEvery = 1 << 40
	q := open(b, o)
	batch := benchBatch()
	var got [][]byte
	taken := 0
	for b.Loop() {
		if q.Depth() == 0 {
			b.StopTimer()
			for range 1000 {
				if err := q.Put(batch); err != nil {
					b.Fatal(err)
				}
			}
			b.StartTimer()
		}
		var err error
		if got, err = take(q, got[:0], 200); err != nil {
			b.Fatal(err)
		}
		taken += len(got)
	}
	b.ReportMetric(float64(taken)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(taken), "ns/record")
}

// BenchmarkPutTake is a consumer that keeps up.
func BenchmarkPutTake(b *testing.B) {
	o := benchOptions(b)
	o.SyncEvery = 1 << 40
	q := open(b, o)
	batch := benchBatch()
	var got [][]byte
	for b.Loop() {
		if err := q.Put(batch); err != nil {
			b.Fatal(err)
		}
		var err error
		if got, err = take(q, got[:0], 200); err != nil || len(got) != 200 {
			b.Fatal(len(got), err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/200, "ns/record")
}

// BenchmarkGroupCommit is 16 publishers of single records, synced each, and
// the limit: one write and one fdatasync for 16 records.
func BenchmarkGroupCommit(b *testing.B) {
	payload := append(message(1, ""), bytes.Repeat([]byte("b"), 170)...)
	b.Run("raw", func(b *testing.B) {
		f, err := osFS{}.OpenFile(filepath.Join(b.TempDir(), "raw"), os.O_CREATE|os.O_RDWR)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		chunk := bytes.Repeat(record(payload), 16)
		off := int64(0)
		for b.Loop() {
			if _, err := f.WriteAt(chunk, off); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
			off += int64(len(chunk))
		}
		b.ReportMetric(float64(b.N)*16/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("16 publishers", func(b *testing.B) {
		o := benchOptions(b)
		o.SyncEvery = 1
		q := open(b, o)
		one := batch(payload)
		var left atomic.Int64
		for b.Loop() { // one round is 1600 records
			left.Store(1600)
			var publishers sync.WaitGroup
			for range 16 {
				publishers.Go(func() {
					for left.Add(-1) >= 0 {
						if err := q.Put(one); err != nil {
							b.Error(err)
						}
					}
				})
			}
			publishers.Wait()
		}
		b.ReportMetric(float64(b.N)*1600/b.Elapsed().Seconds(), "records/s")
	})
}

// BenchmarkOpen3000 is the start of an nsqd with 3000 queues that were closed
// cleanly, each with a few records.
func BenchmarkOpen3000(b *testing.B) {
	o := benchOptions(b)
	o.FS = noSyncFS{}
	for n := range 3000 {
		o.Name = fmt.Sprint("topic", n)
		q := open(b, o)
		put(b, q, message(n, "body"))
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		names, err := List(o.Dir)
		if err != nil {
			b.Fatal(err)
		}
		o.Names = names
		for n := range 3000 {
			o.Name = fmt.Sprint("topic", n)
			if !names.Has(o.Name) {
				b.Fatal(o.Name)
			}
			if _, err := Open(o); err != nil { // nothing to close
				b.Fatal(err)
			}
		}
	}
}
