! A training step and inference of batch norm with ReLU through the C API, checked against what PyTorch computed:
!   golden_step tests/golden/nchw_relu.f32
! Fortran stores the first index first: an array x(spatial, channels, batch) is bnorm's NCHW, x(channels, spatial, batch)
! its NHWC.
module bnorm
    use, intrinsic :: iso_c_binding
    implicit none

    integer(c_int32_t), parameter :: training_forward = 0, inference = 1, backward = 2, nchw = 0, relu = 1

    type, bind(c) :: bnorm_problem
        integer(c_int32_t) :: operation = 0, data_type = 0, layout = 0
        integer(c_int64_t) :: batch = 0, channels = 0, spatial = 0, x_stride = 0, y_stride = 0, residual_stride = 0
        real(c_double) :: epsilon = 0
        integer(c_int32_t) :: activation = 0
        real(c_float) :: activation_parameter = 0
        integer(c_int32_t) :: residual = 0, threads = 0
        type(c_ptr) :: parallel_for = c_null_ptr
    end type

    type, bind(c) :: bnorm_training_forward_args
        type(c_ptr) :: x = c_null_ptr, residual = c_null_ptr, gamma = c_null_ptr, beta = c_null_ptr, y = c_null_ptr, &
            mean = c_null_ptr, inv_std = c_null_ptr, running_mean = c_null_ptr, running_var = c_null_ptr
        integer(c_int32_t) :: running_update = 0
        real(c_double) :: momentum = 0
        integer(c_int64_t) :: batches_seen = 0
        type(c_ptr) :: mask = c_null_ptr
        integer(c_size_t) :: mask_bytes = 0
    end type

    type, bind(c) :: bnorm_inference_args
        type(c_ptr) :: x = c_null_ptr, residual = c_null_ptr, gamma = c_null_ptr, beta = c_null_ptr, &
            running_mean = c_null_ptr, running_var = c_null_ptr, y = c_null_ptr, mask = c_null_ptr
        integer(c_size_t) :: mask_bytes = 0
    end type

    type, bind(c) :: bnorm_backward_args
        type(c_ptr) :: dy = c_null_ptr, x = c_null_ptr, gamma = c_null_ptr, beta = c_null_ptr, mean = c_null_ptr, &
            inv_std = c_null_ptr, mask = c_null_ptr
        integer(c_size_t) :: mask_bytes = 0
        type(c_ptr) :: dx = c_null_ptr, dresidual = c_null_ptr, dgamma = c_null_ptr, dbeta = c_null_ptr
    end type

    interface
        integer(c_int32_t) function bnorm_plan_create(problem, plan) bind(c)
            import
            type(bnorm_problem), intent(in) :: problem
            type(c_ptr), intent(out) :: plan
        end function
        subroutine bnorm_plan_destroy(plan) bind(c)
            import
            type(c_ptr), value :: plan
        end subroutine
        integer(c_int32_t) function bnorm_training_forward(plan, args) bind(c)
            import
            type(c_ptr), value :: plan
            type(bnorm_training_forward_args), intent(in) :: args
        end function
        integer(c_int32_t) function bnorm_inference(plan, args) bind(c)
            import
            type(c_ptr), value :: plan
            type(bnorm_inference_args), intent(in) :: args
        end function
        integer(c_int32_t) function bnorm_backward(plan, args) bind(c)
            import
            type(c_ptr), value :: plan
            type(bnorm_backward_args), intent(in) :: args
        end function
        type(c_ptr) function bnorm_last_error() bind(c)
            import
        end function
    end interface

contains

    subroutine check(status)
        integer(c_int32_t), intent(in) :: status
        character(kind=c_char), pointer :: text(:)
        integer :: i
        if (status == 0) return
        call c_f_pointer(bnorm_last_error(), text, [1000])
        do i = 1, size(text)
            if (text(i) == c_null_char) exit
            write (*, '(a)', advance='no') text(i)
        end do
        error stop 1
    end subroutine
end module

program golden_step
    use bnorm
    implicit none
    integer, parameter :: n = 2, c = 19, s = 49
    real(c_float), target, dimension(s, c, n) :: x, residual, dy, y, dx, expected
    real(c_float), target, dimension(c) :: gamma, beta, running_mean, running_var, dgamma, dbeta, expected_c
    real(c_double), target, dimension(c) :: mean, inv_std
    real(c_float) :: frozen_y(s, c, n)
    type(bnorm_training_forward_args) :: forward
    type(bnorm_inference_args) :: infer
    type(bnorm_backward_args) :: back
    type(c_ptr) :: plan
    character(1000) :: path

    call get_command_argument(1, path)
    open (unit=10, file=trim(path), form='unformatted', access='stream', status='old')
    read (10) x, gamma, beta, residual, running_mean, running_var, dy

    infer%x = c_loc(x)
    infer%gamma = c_loc(gamma)
    infer%beta = c_loc(beta)
    infer%running_mean = c_loc(running_mean)
    infer%running_var = c_loc(running_var)
    infer%y = c_loc(y)
    plan = make_plan(inference)
    call check(bnorm_inference(plan, infer))
    call bnorm_plan_destroy(plan)
    frozen_y = y

    forward%x = c_loc(x)
    forward%gamma = c_loc(gamma)
    forward%beta = c_loc(beta)
    forward%y = c_loc(y)
    forward%mean = c_loc(mean)
    forward%inv_std = c_loc(inv_std)
    forward%running_mean = c_loc(running_mean)
    forward%running_var = c_loc(running_var)
    forward%momentum = 0.1d0
    plan = make_plan(training_forward)
    call check(bnorm_training_forward(plan, forward))
    call bnorm_plan_destroy(plan)

    back%dy = c_loc(dy)
    back%x = c_loc(x)
    back%gamma = c_loc(gamma)
    back%beta = c_loc(beta)
    back%mean = c_loc(mean)
    back%inv_std = c_loc(inv_std)
    back%dx = c_loc(dx)
    back%dgamma = c_loc(dgamma)
    back%dbeta = c_loc(dbeta)
    plan = make_plan(backward)
    call check(bnorm_backward(plan, back))
    call bnorm_plan_destroy(plan)

    read (10) expected
    call expect('y', reshape(y, [s*c*n]), reshape(expected, [s*c*n]))
    read (10) expected_c
    call expect('running_mean', running_mean, expected_c)
    read (10) expected_c
    call expect('running_var', running_var, expected_c)
    read (10) expected
    call expect('dx', reshape(dx, [s*c*n]), reshape(expected, [s*c*n]))
    read (10) expected
    read (10) expected_c
    call expect('dgamma', dgamma, expected_c)
    read (10) expected_c
    call expect('dbeta', dbeta, expected_c)
    read (10) expected
    call expect('y of inference', reshape(frozen_y, [s*c*n]), reshape(expected, [s*c*n]))
    print '(a)', "Fortran: training and inference are PyTorch's"

contains

    type(c_ptr) function make_plan(operation)
        integer(c_int32_t), intent(in) :: operation
        type(bnorm_problem) :: problem
        problem%operation = operation
        problem%layout = nchw
        problem%batch = n
        problem%channels = c
        problem%spatial = s
        problem%epsilon = 1d-5
        problem%activation = relu
        call check(bnorm_plan_create(problem, make_plan))
    end function

    subroutine expect(name, got, wanted)
        character(*), intent(in) :: name
        real(c_float), intent(in) :: got(:), wanted(:)
        if (.not. all(abs(got - wanted) <= 5e-6*(1 + abs(wanted)))) then
            print '(a)', name//" is not PyTorch's"
            error stop 1
        end if
    end subroutine
end program
