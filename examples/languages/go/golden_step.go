// A training step and inference of batch norm with ReLU through the C API, checked against what PyTorch computed:
//
//	golden_step tests/golden/nchw_relu.f32
package main

/*
#cgo LDFLAGS: -lbnorm
#include <bnorm/bnorm.h>
#include <stdlib.h>
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"unsafe"
)

const (
	batch    = 2
	channels = 19
	spatial  = 49
	elements = batch * channels * spatial
)

// The error of a status. The library keeps its message per thread: the caller holds the thread (runtime.LockOSThread).
func check(status C.bnorm_status) error {
	if status == C.BNORM_OK {
		return nil
	}
	return errors.New(C.GoString(C.bnorm_last_error()))
}

type plan struct{ c *C.bnorm_plan }

func newPlan(operation C.bnorm_operation) (plan, error) {
	problem := C.bnorm_problem{operation: operation, layout: C.BNORM_NCHW, batch: batch, channels: channels,
		spatial: spatial, epsilon: 1e-5, activation: C.BNORM_RELU}
	var result plan
	err := check(C.bnorm_plan_create(&problem, &result.c))
	return result, err
}

func (p plan) close() { C.bnorm_plan_destroy(p.c) }

// Go's pointers may be handed to C inside a struct only while they are pinned: the arrays of this example are C's.
func floats(values []float32) *C.float {
	if len(values) == 0 {
		return nil
	}
	return (*C.float)(unsafe.Pointer(&values[0]))
}

// An array in C's memory.
func newFloats(count int) []float32 {
	return unsafe.Slice((*float32)(C.calloc(C.size_t(count), 4)), count)
}
func newDoubles(count int) []float64 {
	return unsafe.Slice((*float64)(C.calloc(C.size_t(count), 8)), count)
}
func doubles(values []float64) *C.double { return (*C.double)(unsafe.Pointer(&values[0])) }

// The file's arrays in their order: see tests/golden/generate.py.
type golden struct{ file *os.File }

func (g golden) read(count int) []float32 {
	values := newFloats(count)
	if err := binary.Read(g.file, binary.LittleEndian, values); err != nil {
		panic(err)
	}
	return values
}
func (g golden) tensor() []float32   { return g.read(elements) }
func (g golden) channels() []float32 { return g.read(channels) }

func expect(name string, got, expected []float32) error {
	for i := range expected {
		if !(math.Abs(float64(got[i]-expected[i])) <= 5e-6*(1+math.Abs(float64(expected[i])))) {
			return fmt.Errorf("%s[%d] is %g instead of %g", name, i, got[i], expected[i])
		}
	}
	return nil
}

func infer(x, gamma, beta, runningMean, runningVar, y []float32) error {
	p, err := newPlan(C.BNORM_INFERENCE)
	if err != nil {
		return err
	}
	defer p.close()
	args := C.bnorm_inference_args{x: unsafe.Pointer(&x[0]), gamma: floats(gamma), beta: floats(beta),
		running_mean: floats(runningMean), running_var: floats(runningVar), y: unsafe.Pointer(&y[0])}
	return check(C.bnorm_inference(p.c, &args))
}

func forward(x, gamma, beta, runningMean, runningVar, y []float32, mean, invStd []float64) error {
	p, err := newPlan(C.BNORM_TRAINING_FORWARD)
	if err != nil {
		return err
	}
	defer p.close()
	args := C.bnorm_training_forward_args{x: unsafe.Pointer(&x[0]), gamma: floats(gamma), beta: floats(beta),
		y: unsafe.Pointer(&y[0]), mean: doubles(mean), inv_std: doubles(invStd), running_mean: floats(runningMean),
		running_var: floats(runningVar), momentum: 0.1}
	return check(C.bnorm_training_forward(p.c, &args))
}

func backward(dy, x, gamma, beta []float32, mean, invStd []float64, dx, dgamma, dbeta []float32) error {
	p, err := newPlan(C.BNORM_BACKWARD)
	if err != nil {
		return err
	}
	defer p.close()
	args := C.bnorm_backward_args{dy: unsafe.Pointer(&dy[0]), x: unsafe.Pointer(&x[0]), gamma: floats(gamma),
		beta: floats(beta), mean: doubles(mean), inv_std: doubles(invStd), dx: unsafe.Pointer(&dx[0]),
		dgamma: floats(dgamma), dbeta: floats(dbeta)}
	return check(C.bnorm_backward(p.c, &args))
}

func run(path string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	g := golden{file}
	x, gamma, beta := g.tensor(), g.channels(), g.channels()
	g.tensor() // a residual, which this case has none of
	runningMean, runningVar, dy := g.channels(), g.channels(), g.tensor()
	frozenY, y, dx := newFloats(elements), newFloats(elements), newFloats(elements)
	dgamma, dbeta := newFloats(channels), newFloats(channels)
	mean, invStd := newDoubles(channels), newDoubles(channels)

	if err := infer(x, gamma, beta, runningMean, runningVar, frozenY); err != nil {
		return err
	}
	if err := forward(x, gamma, beta, runningMean, runningVar, y, mean, invStd); err != nil {
		return err
	}
	if err := backward(dy, x, gamma, beta, mean, invStd, dx, dgamma, dbeta); err != nil {
		return err
	}
	expected := []struct {
		name string
		got  []float32
		want []float32
	}{
		{"y", y, g.tensor()}, {"running_mean", runningMean, g.channels()}, {"running_var", runningVar, g.channels()},
		{"dx", dx, g.tensor()}, {"", nil, g.tensor()}, {"dgamma", dgamma, g.channels()},
		{"dbeta", dbeta, g.channels()}, {"y of inference", frozenY, g.tensor()},
	}
	for _, e := range expected {
		if e.got == nil {
			continue
		}
		if err := expect(e.name, e.got, e.want); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: golden_step tests/golden/nchw_relu.f32")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("Go: training and inference are PyTorch's (bnorm " + C.GoString(C.bnorm_version()) + ")")
}
